"""A run's kept views fused anew, image by image: as they were, or by another fusion section."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.config import Ensemble, dump, parse, read_yaml
from tis_ray.config.fusion import PRESETS
from tis_ray.errors import ConfigError
from tis_ray.formats.members import ensemble_sizes
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.auto_ranges import check_sizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import ENSEMBLE, RunFolder
from tis_ray.runs.records import ImageOutcome
from tis_ray.views import SizeHW, View


def fused(run: RunFolder, ensemble: Ensemble) -> Iterator[ImageOutcome]:
    """What the run found, with the instances that `ensemble`, which `changed` made, fuses of its kept views.

    One image at a time, in the order of the run's list; failed ones stay so. Raises `ConfigError` for a run without
    kept views and for a fusion that cannot be assembled, and `DataError` for damaged shards.
    """
    fuser, views = fuser_of(ensemble, run.categories), ensemble.views
    for outcome, kept in run.outcomes_with_views():
        if outcome.status == "failed":
            yield outcome
        else:
            instances = fuse_kept(fuser, kept.found, image_hw=kept.size_hw, sources=views)
            yield replace(outcome, instances=instances)


def changed(run: RunFolder, *, fusion: str | None = None, overrides: Sequence[str] = ()) -> Ensemble:
    """The run's ensemble with another fusion section.

    fusion:    name of a preset, which takes the place of the section but for `members`, or a YAML file, an ensemble's
               for example, whose section takes its place
    overrides: `fusion.KEY=VALUE` texts, applied after that

    Raises `ConfigError` for what is no fusion section, for overrides of anything else, and for roles that ask of a
    member what the run did not keep.
    """
    before = run.ensemble
    content = dump(before)
    written = {key: value for key, value in content["fusion"].items() if (key, value) != ("auto_ranges", None)}
    content["fusion"] = written if fusion is None else _section(fusion, written)
    for override in overrides:
        _check_override(override, whole=fusion is None)
    ensemble = parse(Ensemble, content, overrides, source=str(run.path / ENSEMBLE))
    check_roles(before, ensemble)
    return ensemble


def fuser_of(ensemble: Ensemble, categories: Categories, *, sizes: Mapping[str, TrainingSizes] | None = None) -> Fuser:
    """The fusion of kept views. Training sizes are read from the members' checkpoints where they are needed."""
    if sizes is None:
        sizes = {} if ensemble.fusion.auto_ranges is None else ensemble_sizes(ensemble)
    check_sizes(ensemble, sizes)
    return Fuser(ensemble.fusion, categories, sizes=sizes)


def fuse_kept(fuser: Fuser, found: Mapping[View, Instances], *, image_hw: SizeHW, sources: Sequence[View]) -> Instances:
    """Fuse what views found in one image, views left out of `sources` aside.

    A run keeps of a member that draws masks alone the boxes that were fused then, with its masks of them. Where fusing
    gives these boxes again, they get these masks; where it does not, each gets the nearest as the mask policy says.
    """
    merged = fuser.merge({view: found[view] for view in sources if view in found}, image_hw=image_hw, sources=sources)
    masks = {}
    for view in sources:
        if view in found and not fuser.plan(view).boxes:
            own = _of_same_boxes(merged.instances, found[view])
            if own is not None:
                masks[view] = own
    return fuser.finish(merged, masks)


def remarks(ensemble: Ensemble) -> list[str]:
    """What fusing anew cannot do as the run did it, a line each."""
    roles = {ensemble.fusion.role(name) for name in ensemble.members}
    if ensemble.fusion.second_pass and "both" in roles:
        return ["fusion.second_pass: no model is asked for masks of the fused boxes; those of the views' own stand in"]
    return []


def _section(fusion: str, written: Mapping[str, Any]) -> Any:
    if fusion in PRESETS:
        return {"preset": fusion, "members": written["members"]}
    path = Path(fusion)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(f"--fusion: expected one of {', '.join(PRESETS)}, or a YAML file; got '{fusion}'")
    return read_yaml(path).get("fusion") or {}


def _check_override(override: str, *, whole: bool) -> None:
    key = override.partition("=")[0]
    if key != "fusion" and not key.startswith("fusion."):
        raise ConfigError(f"--set: expected fusion.KEY=VALUE, for no view is looked for anew; got '{override}'")
    if key == "fusion.preset" and whole:  # everything is written beside it, so that it would change nothing
        raise ConfigError(f"--set: expected --fusion {override.partition('=')[2]} for a preset; got '{override}'")


def check_roles(before: Ensemble, after: Ensemble) -> None:
    """Raise `ConfigError` for a member whose role in `after` asks for what a run of `before` has not kept."""
    for name in before.members:
        was, now = before.fusion.role(name), after.fusion.role(name)
        if was != now and "masks" in (was, now):
            raise ConfigError(
                f"fusion.members.{name}.role: expected {was}, which decided what the run kept of this member; got {now}"
            )


def _of_same_boxes(merged: Instances, given: Instances) -> BoxMasks | None:
    """The masks of `given` for the M `merged` boxes, absent where there is none; None where it has other boxes."""
    if not isinstance(given.masks, BoxMasks):
        return None
    same = (_rows(given)[:, None] == _rows(merged)).all(axis=2)  # (N, M)
    if not same.any(axis=1).all():
        return None
    rows = same.argmax(axis=1) if len(merged) else np.zeros(0, dtype=np.int64)
    patches = np.zeros((len(merged), given.masks.size, given.masks.size), dtype=np.float16)
    patches[rows] = given.masks.probabilities
    present = np.zeros(len(merged), dtype=np.bool_)
    present[rows] = given.masks.present
    quality = None
    if given.masks.quality is not None:
        quality = np.ones(len(merged), dtype=np.float32)
        quality[rows] = given.masks.quality
    return BoxMasks(merged.boxes, patches, present, given.masks.pasting, quality)


def _rows(instances: Instances) -> Any:
    return np.concatenate([instances.boxes, instances.scores[:, None], instances.labels[:, None]], axis=1)
