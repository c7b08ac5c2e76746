"""What each part of an ensemble is worth: its score without this member, scale, flip, crop, rule or boost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tis_ray.config import Choice, Ensemble, FusionSection
from tis_ray.evaluation.coco import KINDS, CocoReport
from tis_ray.tuning.scoring import Bench
from tis_ray.views import View


@dataclass(frozen=True, slots=True)
class Variant:
    """The ensemble without one of its parts: what is left of its views, and its fusion."""

    kind: str
    removed: str
    views: tuple[View, ...]
    ensemble: Ensemble

    @property
    def name(self) -> str:
        """In words: `without scale 800`; `all` for the ensemble as it is."""
        return f"without {self.kind} {self.removed}".rstrip() if self.kind else "all"


@dataclass(frozen=True, slots=True)
class Ablation:
    """The scores of each variant, the ensemble as it is first."""

    rows: tuple[tuple[Variant, CocoReport], ...]
    kinds: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: for each row what was removed, how many views remained, its scores and their change."""
        whole = self.rows[0][1]
        return {
            "rows": [
                {
                    "kind": variant.kind,
                    "removed": variant.removed,
                    "num_views": len(variant.views),
                    "AP_change": {kind: change(whole, report, kind) for kind in self.kinds},
                    **report.to_json(),
                }
                for variant, report in self.rows
            ]
        }


def ablate(
    bench: Bench,
    ensemble: Ensemble,
    *,
    kinds: Sequence[str] = KINDS,
    bootstrap: int = 0,
    on_row: Callable[[], None] = lambda: None,
) -> Ablation:
    """Score the ensemble as it is and without each of its parts in turn; `on_row` is called after each.

    What remains is fused anew, and nothing else is changed: ranges that are written stay as they are written, those
    that are found are found for the views that remain. A crop's views had left what its edges cut to others, and
    that stays so where those are removed.
    """
    rows = []
    for variant in variants(ensemble):
        rows.append((variant, bench.report(variant.ensemble, views=variant.views, kinds=kinds, bootstrap=bootstrap)))
        on_row()
    return Ablation(tuple(rows), tuple(kinds))


def variants(ensemble: Ensemble) -> list[Variant]:
    """The ensemble as it is, then without each part that it can do without: boxes are left to fuse."""
    whole = Variant("", "", ensemble.views, ensemble)
    parts = [
        Variant(kind, removed, views, ensemble)
        for kind, removed, views in _without_views(ensemble)
        if any(ensemble.fusion.role(view.member) != "masks" for view in views)
    ]
    return [whole, *parts, *_without_steps(ensemble)]


def change(whole: CocoReport, report: CocoReport, kind: str) -> float | None:
    """How much more AP there is than in the `whole`; None where one of both has none."""
    before, after = whole[kind].AP, report[kind].AP
    return None if min(before, after) < 0 else after - before


def _without_views(ensemble: Ensemble) -> Iterator[tuple[str, str, tuple[View, ...]]]:
    views = ensemble.views
    for name in ensemble.members:
        yield "member", name, tuple(view for view in views if view.member != name)
    whole_image = sorted({view.scale for view in views if not view.crop_name})
    for scale in whole_image:
        yield "scale", str(scale), tuple(view for view in views if view.crop_name or view.scale != scale)
    if any(view.flip for view in views):
        yield "flip", "", tuple(view for view in views if not view.flip)
    for name in sorted({view.crop_name for view in views} - {""}):
        yield "crop", name, tuple(view for view in views if view.crop_name != name)


def _without_steps(ensemble: Ensemble) -> Iterator[Variant]:
    fusion = ensemble.fusion
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("rule", f"{i + 1}, {rule.name}", {"rules": fusion.rules[:i] + fusion.rules[i + 1 :]})
        for i, rule in enumerate(fusion.rules)
    ]
    if fusion.rare_boost is not None:
        changes.append(("boost", "", {"rare_boost": None}))
    if fusion.ranges or fusion.auto_ranges is not None:
        changes.append(("ranges", "", {"ranges": {}, "auto_ranges": None}))
    members = fusion.members.values()
    if any(member.weight != 1 for member in members):
        changes.append(("weights", "", _members(fusion, {"weight": 1.0})))
    if any(member.calibration or member.class_calibration for member in members):
        changes.append(("calibrations", "", _members(fusion, {"calibration": None, "class_calibration": {}})))
    if fusion.masks.name != "best":
        changes.append(("mask policy", fusion.masks.name, {"masks": Choice(name="best")}))
    for kind, removed, update in changes:
        fewer = ensemble.model_copy(update={"fusion": fusion.model_copy(update=update)})
        yield Variant(kind, removed, ensemble.views, fewer)


def _members(fusion: FusionSection, update: dict[str, Any]) -> dict[str, Any]:
    return {"members": {name: member.model_copy(update=update) for name, member in fusion.members.items()}}
