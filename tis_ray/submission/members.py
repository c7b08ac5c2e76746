"""What each part of an ensemble is worth: the same images scored per member, per view set and fused.

Works on the instances that every view found in one batch run, so that no model runs twice.
"""

from collections.abc import Mapping, Sequence

from tis_ray.config import Ensemble
from tis_ray.evaluation.coco import CocoReport, evaluate
from tis_ray.formats.categories import class_map
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.auto_ranges import check_sizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.submission.pipeline import ImageResult
from tis_ray.views import View

_EVERY_SIZE = {"ranges": {}, "auto_ranges": None}


def score_members(
    ensemble: Ensemble,
    results: Sequence[ImageResult],
    dataset: CocoDataset,
    *,
    categories: Categories,
    sizes: Mapping[str, TrainingSizes] | None = None,
    bootstrap: int = 0,
) -> list[tuple[str, CocoReport]]:
    """Rows of a table: each member at each scale and crop alone, each member with all its views, and the ensemble.

    `results` must hold each view's instances, labelled by `categories`, the ensemble's table; classes are joined with
    the data set's by name. A single view is scored as it is, without valid ranges, which only make sense beside other
    scales; what a crop cuts at its edges it has left to those. `sizes` are the members' training sizes by name, for
    automatic ranges. Raises `ConfigError` where the two share no class, and for sizes that are needed and missing.
    """
    sizes = sizes or {}
    check_sizes(ensemble, sizes)
    index_map = class_map(categories, dataset.categories)
    rows = []
    for name, views in view_sets(ensemble):
        section = ensemble.fusion if len(views) > 1 else ensemble.fusion.model_copy(update=_EVERY_SIZE)
        fuser = Fuser(section, categories, sizes=sizes)
        found = [
            line
            for result in results
            if result.found is not None
            for line in to_results(
                _fused(fuser, result.found.views, views, result.size_hw).relabelled(index_map),
                image_id=result.image.id,
                categories=dataset.categories,
                size_hw=result.size_hw,
            )
        ]
        rows.append((name, evaluate(dataset, found, bootstrap=bootstrap)))
    return rows


def view_sets(ensemble: Ensemble) -> list[tuple[str, list[View]]]:
    """Names and views of the rows: each view of a member that is not mirrored, member with all views, all members."""
    rows: list[tuple[str, list[View]]] = []
    for name in ensemble.members:
        own = [view for view in ensemble.views if view.member == name]
        for view in sorted(own, key=lambda view: (view.crop_name, view.scale)):
            if not view.flip:
                crop = f", {view.crop_name}" if view.crop_name else ""
                rows.append((f"{name} at {view.scale} px{crop}", [view]))
        rows.append((f"{name}, {len(own)} views", own))
    return [*rows, (f"ensemble, {len(ensemble.views)} views", list(ensemble.views))]


def _fused(
    fuser: Fuser, found: Mapping[View, Instances], views: Sequence[View], image_hw: tuple[int, int]
) -> Instances:
    # A segmenter's view has nothing to show of an image without boxes, nor has one that is missing.
    return fuser.fuse({view: found[view] for view in views if view in found}, image_hw=image_hw, sources=views)
