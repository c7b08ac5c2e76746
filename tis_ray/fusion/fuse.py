"""Many views of one image in, one answer out: scores made comparable, valid ranges, merge rules, `top_k`, masks.

The answer depends on what each view found and on nothing else: not on the order in which views arrive, since views are
numbered by `sources`, nor on the order within a view, whose instances are sorted; every tie is broken by both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray import menu
from tis_ray.config import Choice, Ensemble, FusionSection
from tis_ray.config.fusion import FusionMember
from tis_ray.errors import ConfigError, InputError
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.auto_ranges import check_sizes, ranges_of
from tis_ray.fusion.calibration import Calibrations
from tis_ray.fusion.mask_select import Select
from tis_ray.fusion.pool import Pool, in_order
from tis_ray.fusion.ranges import Range, within
from tis_ray.fusion.rare_boost import boost_factors, boosted
from tis_ray.fusion.roles import check_roles
from tis_ray.fusion.rules import Merge
from tis_ray.fusion.two_pass import Merged, Plan, with_masks
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks, RunMasks
from tis_ray.ops import boxes as box_ops
from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View


def fuse(
    views: Mapping[View, Instances],
    section: FusionSection,
    *,
    image_hw: SizeHW,
    sources: Sequence[View] | None = None,
    categories: Categories | None = None,
    sizes: Mapping[str, TrainingSizes] | None = None,
) -> Instances:
    """Fuse once; see `Fuser`, which is built once for many images."""
    return Fuser(section, categories, sizes=sizes).fuse(views, image_hw=image_hw, sources=sources)


class Fuser:
    """The fusion a section describes, its rules and mask policy looked up and their options checked.

    `categories` is the class table of the labels; a rare-class boost needs it. `sizes` are the members' training sizes
    by name, which automatic ranges need. `maskless` names the members that predict no masks. Raises `ConfigError`, with
    the choices, for a rule, mask policy or option that does not exist, for a boost that the table cannot serve, and
    where no sizes are given that are needed.
    """

    def __init__(
        self,
        section: FusionSection,
        categories: Categories | None = None,
        *,
        sizes: Mapping[str, TrainingSizes] | None = None,
        maskless: Collection[str] = (),
    ) -> None:
        self._section = section
        self._sizes = sizes or {}
        self._maskless = frozenset(maskless)
        if section.auto_ranges is not None and sizes is None:
            raise ConfigError(
                "fusion.auto_ranges: expected members with known training sizes; got none: write fusion.ranges instead"
            )
        self._num_classes = np.iinfo(np.int32).max if categories is None else len(categories)
        self._factors = None if section.rare_boost is None else boost_factors(section.rare_boost, categories)
        self._calibrations = Calibrations(section.members, None if categories is None else categories.names)
        self._rules: tuple[Merge, ...] = tuple(
            _assemble("tis_ray.fusion.rules", "merge", rule, key=f"fusion.rules.{i}")
            for i, rule in enumerate(section.rules)
        )
        self._select: Select = _assemble("tis_ray.fusion.mask_select", "select", section.masks, key="fusion.masks")

    @staticmethod
    def of(
        ensemble: Ensemble,
        categories: Categories | None,
        *,
        sizes: Mapping[str, TrainingSizes],
        maskless: Collection[str] = (),
    ) -> "Fuser":
        """The fusion of an ensemble.

        Raises `ConfigError` also for a member that lacks training sizes, if needed, or masks that its role asks for.
        """
        check_sizes(ensemble, sizes)
        check_roles(ensemble, maskless)
        return Fuser(ensemble.fusion, categories, sizes=sizes, maskless=maskless)

    def plan(self, view: View) -> Plan:
        """What a view is asked for in each pass, by its member's role; of one that predicts no masks boxes alone."""
        role = self._section.role(view.member)
        if role == "boxes" or view.member in self._maskless:
            return Plan(boxes=True, own_masks=False, masks=False)
        if role == "masks":
            return Plan(boxes=False, own_masks=False, masks=True)
        second = self._section.second_pass
        return Plan(boxes=True, own_masks=not second, masks=second)

    def fuse(
        self,
        views: Mapping[View, Instances],
        *,
        image_hw: SizeHW,
        sources: Sequence[View] | None = None,
    ) -> Instances:
        """One answer from the instances of each view, whose boxes lie in the image frame.

        `sources` lists all views that were asked, and an instance's `source` is its view's index there (default:
        the sorted keys of `views`). A view that is listed but brought nothing has failed; its number stays free.

        Returns at most `top_k` instances over all classes by descending score, then ascending source, then in
        the order the rules left them, with boxes clipped to the image. An instance says whether it has a mask; `masks`
        is None where no view brought any. Raises `InputError` for a view that is not listed, for values that are not
        finite, scores beyond 0..1, labels beyond the class table, and masks that are pixels of another image size.
        """
        return self.finish(self.merge(views, image_hw=image_hw, sources=sources))

    def merge(
        self, views: Mapping[View, Instances], *, image_hw: SizeHW, sources: Sequence[View] | None = None
    ) -> Merged:
        """The first half of `fuse`: boxes, scores and labels as they will be answered, masks still to be chosen."""
        sources = sorted(views) if sources is None else list(sources)
        pool = self._pool(views, sources, image_hw)
        fused = pool.instances
        for rule in self._rules:
            fused = rule(fused, pool)
        fused = fused[fused.scores >= self._section.score_threshold]
        ranked = np.lexsort((fused.source, -fused.scores))[: self._section.top_k]
        return Merged(fused[ranked], pool)

    def given(
        self,
        boxes: Boxes,
        labels: NDArray[np.integer[Any]],
        *,
        image_hw: SizeHW,
        sources: Sequence[View],
    ) -> Merged:
        """Boxes (N, 4) float32 and labels (N,) from elsewhere, in the place of what views found, to be given masks."""
        found = Instances.of(boxes, np.ones(len(boxes)), labels, source=-1)
        return Merged(found, self._pool({}, sources, image_hw))

    def finish(self, merged: Merged, masks: Mapping[View, BoxMasks] | None = None) -> Instances:
        """The second half of `fuse`: the mask policy's choice.

        `masks` are what views predicted for the merged boxes, in their order, in a second pass; they take the place of
        what these views said of their own detections, and an absent one is no say. Valid ranges do not restrict them:
        which boxes count is settled. Raises `InputError` for views that are not among the sources and for masks that
        do not fit the boxes.
        """
        merged = with_masks(merged, masks or {}, pasting=self._section.pasting)
        return self._select(merged.instances, merged.pool)

    def intervals(self, sources: Sequence[View], *, image_hw: SizeHW) -> list[Range]:
        """The sizes that each of the views may speak for in an image of this height and width."""
        return ranges_of(sources, self._section, sizes=self._sizes, image_hw=image_hw)

    def _pool(self, views: Mapping[View, Instances], sources: Sequence[View], image_hw: SizeHW) -> Pool:
        """What all views found, by view number, then in an order of its own: weighted, within ranges and image."""
        strangers = sorted(view.name for view in views if view not in sources)
        if strangers:
            known = ", ".join(view.name for view in sources)
            raise InputError(f"views: expected views among the sources {known}; got {', '.join(strangers)}")
        members = [self._section.members.get(view.member, FusionMember()) for view in sources]
        weights = np.array([member.weight for member in members])
        weights /= weights.max(initial=0) or 1
        intervals = self.intervals(sources, image_hw=image_hw)
        boxes, masks = [], []
        for number, (view, member) in enumerate(zip(sources, members, strict=True)):
            if view not in views:
                continue
            found = within(self._prepared(views[view], view, weights[number], image_hw), intervals[number])
            found = found.from_view(number)
            if member.role != "masks":
                boxes.append(found.without_masks() if member.role == "boxes" else found)
            if member.role != "boxes" and found.masks is not None:
                masks.append(_where(found, found.masks.present))
        union = Instances.concatenate(boxes)
        alike = len(boxes) == len(masks) and all(one is other for one, other in zip(boxes, masks, strict=True))
        return Pool(
            union,
            union if alike else Instances.concatenate(masks),
            tuple(sources),
            np.array(
                [view in views and member.role != "masks" for view, member in zip(sources, members, strict=True)],
                dtype=np.bool_,
            ),
            weights,
            np.array(intervals, dtype=np.float64).reshape(-1, 2),
            image_hw,
        )

    def _prepared(self, found: Instances, view: View, weight: float, image_hw: SizeHW) -> Instances:
        """One view's instances, checked, in an order that does not depend on how they came, scores comparable."""
        _check(found, view, self._num_classes, image_hw)
        found = _clip(in_order(found), image_hw)
        if isinstance(found.masks, BoxMasks):
            found = replace(found, masks=replace(found.masks, pasting=self._section.pasting))
        found = self._calibrations.apply(found, view.member)
        if self._factors is not None:
            found = boosted(found, self._factors)
        return found if weight == 1 else found.with_scores(found.scores * np.float32(weight))


def _assemble(package: str, function: str, choice: Choice, *, key: str) -> Any:
    found = menu.pick(package, function, choice.name, key=key)
    options = menu.check_options(found, choice.options, key=f"{key}.{choice.name}")
    return partial(found, **options)


def _check(instances: Instances, view: View, num_classes: int, image_hw: SizeHW) -> None:
    try:
        instances.check_values(num_classes=num_classes)
        if isinstance(instances.masks, RunMasks):
            instances.masks.check_size(*image_hw)
    except InputError as error:
        raise InputError(f"view {view.name}: {error}") from None


def _clip(instances: Instances, image_hw: SizeHW) -> Instances:
    """Boxes cut to the image, those without area dropped; masks keep their own frames."""
    boxes = box_ops.clip(instances.boxes, *image_hw)
    return _where(replace(instances, boxes=boxes), box_ops.area(boxes) > 0)


def _where(instances: Instances, chosen: NDArray[np.bool_]) -> Instances:
    """The chosen instances; where that is all of them no patch is copied."""
    return instances if chosen.all() else instances[chosen]
