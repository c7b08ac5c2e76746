"""A client's result as arrays: tis-ray's own `Instances`, and `supervision.Detections` where that is installed."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.formats import segmentation
from tis_ray.instances import Categories, Instances
from tis_ray.masks import RunMasks
from tis_ray.ops import crop_runs, rle
from tis_ray.ops.boxes import Boxes, xywh_to_xyxy
from tis_ray.ops.run_algebra import bounds
from tis_ray.ops.runs import Runs

if TYPE_CHECKING:
    from supervision import CompactMask, Detections

    from tis_ray.serving.answers import Result

_NO_SUPERVISION = "supervision is not installed; `pip install 'tis-ray[supervision]'` brings it"


def to_instances(result: "Result", categories: Categories) -> Instances:
    """See `Result.to_instances`."""
    labels = {category_id: label for label, category_id in enumerate(categories.ids)}
    unknown = sorted({found.category_id for found in result.instances} - set(labels))
    if unknown:
        raise InputError(f"categories: expected those of the service; no class there has the id {unknown[0]}")
    return Instances.of(
        _boxes(result),
        [found.score for found in result.instances],
        [labels[found.category_id] for found in result.instances],
        _run_masks(result),
    )


def to_supervision(result: "Result", *, masks: bool | Literal["compact"]) -> "Detections":
    """See `Result.to_supervision`."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        if error.name != "supervision":
            raise
        raise ImportError(_NO_SUPERVISION) from None
    if masks not in (True, False, "compact"):
        raise InputError(f"masks: expected True, False or 'compact'; got {masks!r}")
    mask_scores = [found.score if found.mask_score is None else found.mask_score for found in result.instances]
    return supervision.Detections(
        xyxy=_boxes(result),
        mask=None if masks is False else _compact(result) if masks == "compact" else _dense(_runs(result)),
        confidence=np.array([found.score for found in result.instances], dtype=np.float32),
        class_id=np.array([found.category_id for found in result.instances], dtype=np.int64),
        data={
            "class_name": np.array([found.category for found in result.instances], dtype=np.str_),
            "mask_score": np.array(mask_scores, dtype=np.float32),
        },
    )


def _boxes(result: "Result") -> Boxes:
    """Boxes (N, 4) xyxy, summed in float64: a sum of float32 would be rounded once more."""
    xywh = np.array([found.bbox for found in result.instances], dtype=np.float64).reshape(-1, 4)
    return xywh_to_xyxy(xywh).astype(np.float32)  # type: ignore[arg-type]  # of any float


def _runs(result: "Result") -> Runs:
    """The masks as runs; without pixels where an instance has none. Raises `InputError` for one that is damaged."""
    rles = [
        rle.from_counts([result.height * result.width], result.height, result.width)
        if found.segmentation is None
        else segmentation.to_rle(found.segmentation, found.bbox, result.height, result.width)
        for found in result.instances
    ]
    return rle.to_runs(rles, result.height, result.width)


def _run_masks(result: "Result") -> RunMasks | None:
    present = np.array([found.segmentation is not None for found in result.instances], dtype=np.bool_)
    if not present.any():
        return None
    return RunMasks(_runs(result), present, _quality(result))


def _quality(result: "Result") -> NDArray[np.float32] | None:
    """How well each mask is said to fit: its score is the box's times that."""
    if all(found.mask_score is None for found in result.instances):
        return None
    pairs = [(found.score, found.mask_score) for found in result.instances]
    shares = [1.0 if ranked is None or score <= 0 else min(ranked / score, 1.0) for score, ranked in pairs]
    return np.array(shares, dtype=np.float32)


def _dense(runs: Runs) -> NDArray[np.bool_]:
    """Full masks (N, H, W), for the eyes of others."""
    masks = np.zeros((len(runs), runs.height, runs.width), dtype=np.bool_)
    for mask, crop, (x, y) in zip(masks, *crop_runs.to_crops(runs), strict=True):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return masks


def _compact(result: "Result") -> "CompactMask":
    try:
        from supervision import CompactMask
    except ImportError:
        raise ImportError("masks='compact' needs a supervision with CompactMask; the one installed is older") from None
    runs = _runs(result)
    # It keeps what lies within boxes whose last pixel is inside; masks may reach beyond the instance's own box.
    boxes = (bounds(runs) - [0, 0, 1, 1]).clip(min=0).astype(np.float32)
    rles: list[dict[str, Any]] = [dict(one) for one in rle.from_runs(runs)]
    return CompactMask.from_coco_rle(rles, boxes, (runs.height, runs.width))
