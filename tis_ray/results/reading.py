"""Results files side by side, image by image: each is read once from front to back and grouped by image on disk."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import orjson

from tis_ray.config import ResultsFiles
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco_results import stream_results
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.instances import Instances
from tis_ray.masks import RunMasks
from tis_ray.masks.quality import Quality
from tis_ray.ops import boxes as box_ops
from tis_ray.ops import rle
from tis_ray.results.progress import Progress, silent
from tis_ray.results.spool import Spool


def per_image(
    files: ResultsFiles,
    data: GroundTruth,
    *,
    folder: Path | None = None,
    progress: Progress = silent,
    doing: str = "fusing",
    bad: BadEntries | None = None,
) -> Generator[tuple[ImageRecord, dict[str, Instances]]]:
    """Each image of `data` by ascending id, with what each file, by its name in `files.results`, found there.

    All files are read and checked before the first image comes: `DataError` names file, position, image and field of
    what is wrong, unless `bad` skips and counts it. Instances have the labels of `data.categories`, and `RunMasks`
    where a file has a mask for some of them. Memory follows one image; the results wait in a nameless file in `folder`
    (default: that of temporary files).
    `doing` is what `progress` tells of the images.
    """
    labels = {category_id: label for label, category_id in enumerate(data.categories.ids)}
    with Spool(folder or Path(gettempdir())) as spool:
        for name, entry in files.results.items():
            for result in progress(stream_results(entry.file, data, bad=bad), f"reading {name}", None, "results"):
                spool.add((result["image_id"], name), _packed(result, labels))
        for record in progress(data.images, doing, len(data.images), "images"):
            yield record, {name: _instances(spool.take((record.id, name)), record) for name in files.results}


def _packed(result: Mapping[str, Any], labels: Mapping[int, int]) -> bytes:
    mask = result.get("segmentation")
    counts = None if mask is None else mask["counts"]
    return orjson.dumps(
        [labels[result["category_id"]], result["score"], *result["bbox"], counts, result.get("mask_score")]
    )


def _instances(records: Sequence[bytes], record: ImageRecord) -> Instances:
    """What `_packed` made of the results of one file and image."""
    rows = orjson.loads(b"[" + b",".join(records) + b"]")
    numbers: Any = np.array([row[:6] for row in rows], dtype=np.float64).reshape(-1, 6)
    boxes = box_ops.xywh_to_xyxy(numbers[:, 2:])  # added in float64, as COCO's numbers are
    return Instances.of(boxes, numbers[:, 1], numbers[:, 0], _masks(rows, record))


def _masks(rows: Sequence[Sequence[Any]], record: ImageRecord) -> RunMasks | None:
    counts = [row[6] for row in rows]
    present = np.array([one is not None for one in counts], dtype=np.bool_)
    if not present.any():
        return None
    height, width = record.height, record.width
    rles: list[rle.Rle] = [{"size": [height, width], "counts": one} for one in counts if one is not None]
    places = np.cumsum(present) - 1
    masks = RunMasks(rle.to_runs(rles, height, width))[np.maximum(places, 0)]
    masks = RunMasks.absent(height, width, count=len(present)).replaced(present, masks)
    return replace(masks, quality=_quality([row[1] for row in rows], [row[7] for row in rows]))


def _quality(scores: Sequence[float], mask_scores: Sequence[float | None]) -> Quality:
    """What scores were multiplied by to give those of masks, 1 where there is none; None where there is none at all."""
    if all(one is None for one in mask_scores):
        return None
    pairs = zip(scores, mask_scores, strict=True)
    return np.array([1 if mine is None or score == 0 else mine / score for score, mine in pairs], dtype=np.float32)
