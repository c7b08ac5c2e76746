"""From the fused arrays to the JSON of `/v1/segment`. Numbers keep their float32 digits, masks become RLE here."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tis_ray.instances import Categories, Instances
from tis_ray.ops import boxes as box_ops
from tis_ray.ops import polygons, rle, run_algebra
from tis_ray.serving.messages import ViewReport
from tis_ray.serving.schemas import SegmentQuery
from tis_ray.views import SizeHW, View


def chosen(instances: Instances, query: SegmentQuery) -> Instances:
    """The instances a query asks for, highest score first."""
    kept = instances[instances.scores >= np.float32(query.score_threshold)]
    order = np.argsort(-kept.scores, kind="stable")[: query.max_instances]
    return kept[order]


def write_instances(
    instances: Instances, *, categories: Categories, image_hw: SizeHW, masks: str
) -> list[dict[str, Any]]:
    """The `instances` of the answer, N dicts ready for orjson; `masks` is rle, polygon or none."""
    rows = _detections(instances, categories)
    if instances.masks is not None and instances.masks.quality is not None:
        for row, mask_score, present in zip(rows, instances.mask_scores, instances.masks.present, strict=True):
            row |= {"mask_score": mask_score} if present else {}
    if masks == "none" or instances.masks is None:
        areas = box_ops.area(instances.boxes)
        return [row | {"segmentation": None, "area": area} for row, area in zip(rows, areas, strict=True)]
    runs = instances.masks.to_runs(*image_hw)
    written: Sequence[Any] = polygons.from_runs(runs) if masks == "polygon" else rle.from_runs(runs)
    mask_areas, box_areas = run_algebra.areas(runs).tolist(), box_ops.area(instances.boxes)
    present = instances.masks.present
    for i, row in enumerate(rows):
        row["segmentation"] = written[i] if present[i] else None
        row["area"] = mask_areas[i] if present[i] else box_areas[i]
    return rows


def write_views(reports: Sequence[ViewReport], categories: Categories) -> list[dict[str, Any]]:
    """The `views` of the answer; `detections` where the report carries the view's own instances."""
    rows = []
    for report in reports:
        row = write_view(report.view) | {
            "status": report.status,
            "seconds": report.seconds,
            "instances": report.num_instances,
        }
        if report.found is not None:
            row["detections"] = _detections(report.found, categories)
        rows.append(row)
    return rows


def write_view(view: View) -> dict[str, Any]:
    """A view as the interface shows it."""
    return {
        "member": view.member,
        "scale": view.scale,
        "flip": view.flip,
        "crop": list(view.crop) or None,
        "tile": dict(zip(("width", "height", "overlap"), view.tile, strict=True)) if view.tile else None,
        "crop_name": view.crop_name or None,
    }


def _detections(instances: Instances, categories: Categories) -> list[dict[str, Any]]:
    boxes = np.ascontiguousarray(box_ops.xyxy_to_xywh(instances.boxes))
    return [
        {
            "category_id": categories.ids[label],
            "category": categories.names[label],
            "score": score,
            "bbox": box,
        }
        for label, score, box in zip(instances.labels.tolist(), instances.scores, boxes, strict=True)
    ]
