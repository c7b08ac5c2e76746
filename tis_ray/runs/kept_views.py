"""View shards: what every view found by itself, one row for an image and view, so that it can be fused anew.

Nothing is rounded: fusing them gives what fusing gave during the run, to the bit. `patches` are float16 probabilities,
`patch_size` squared for each instance, stretched over `mask_boxes`; all mask columns are null for a view without masks.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray import whole_files
from tis_ray.errors import DataError
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs import columns
from tis_ray.runs.records import ImageViews
from tis_ray.views import View

SCHEMA = pa.schema(
    {
        "image_id": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "view": pa.string(),
        **columns.INSTANCES,
        "patch_size": pa.int32(),
        "patches": pa.large_binary(),
        "mask_boxes": pa.list_(columns.BOX),
        "mask_present": pa.list_(pa.bool_()),
        "mask_quality": pa.list_(pa.float32()),
        "pasting": pa.string(),
    }
)
_FORMAT = "views 1"


def write(path: Path, images: Sequence[ImageViews], run: str) -> None:
    """Write a shard of the run of this digest, whole and flushed to the disk.

    Raises `OSError`; nothing has changed then.
    """
    pairs = [(image, view, found) for image in images for view, found in image.found.items()]
    sizes = [[image.image_id, *image.size_hw] for image in images]
    schema = SCHEMA.with_metadata(columns.metadata(format=_FORMAT, run=run, images=sizes))
    table = pa.table(
        {
            "image_id": pa.array([image.image_id for image, _, _ in pairs], pa.int64()),
            "height": pa.array([image.size_hw[0] for image, _, _ in pairs], pa.int32()),
            "width": pa.array([image.size_hw[1] for image, _, _ in pairs], pa.int32()),
            "view": pa.array([view.name for _, view, _ in pairs], pa.string()),
            **columns.of_instances([found for _, _, found in pairs]),
            **_mask_columns([found for _, _, found in pairs]),
        },
        schema=schema,
    )
    with whole_files.replacing(path, durable=True) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def read(path: Path, views: Sequence[View], run: str | None = None) -> Iterator[ImageViews]:
    """The images of a shard in order, also those in which no view answered; `views` are the ensemble's.

    Raises `DataError` for a file that is missing, damaged, of another kind, or of another run where `run` is its
    digest, and for a view that is none of `views`.
    """
    named = {view.name: view for view in views}
    found: dict[int, dict[View, Instances]] = {}
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stored:
            about = columns.about(stored.schema_arrow, _FORMAT, run)
            for batch in stored.iter_batches(batch_size=64):
                _collect(found, batch, named, path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: expected a shard of kept views; got {error}") from None
    for image_id, height, width in about["images"]:
        yield ImageViews(image_id, (height, width), found.pop(image_id, {}))


def check(path: Path, run: str) -> None:
    """Read a shard for its checksums alone; raises `DataError` as `read` does."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stored:
            columns.about(stored.schema_arrow, _FORMAT, run)
            for _ in stored.iter_batches(batch_size=64):
                pass
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: expected a shard of kept views; got {error}") from None


def _collect(
    found: dict[int, dict[View, Instances]], batch: pa.RecordBatch, named: Mapping[str, View], path: Path
) -> None:
    names, ids = batch.column("view").to_pylist(), batch.column("image_id").to_pylist()
    for name, image_id, instances in zip(names, ids, _instances(batch), strict=True):
        if name not in named:
            raise DataError(f"{path}: expected views of the ensemble, {', '.join(named)}; got {name}")
        found.setdefault(image_id, {})[named[name]] = instances


def _mask_columns(parts: Sequence[Instances]) -> dict[str, Any]:
    masks = [_box_masks(part) for part in parts]
    qualities = [None if one is None or one.quality is None else one.quality.tolist() for one in masks]
    return {
        "patch_size": pa.array([None if one is None else one.size for one in masks], pa.int32()),
        "patches": pa.array([None if one is None else one.probabilities.tobytes() for one in masks], pa.large_binary()),
        "mask_boxes": columns.boxes_column(
            [np.zeros((0, 4), np.float32) if one is None else one.boxes for one in masks]
        ),
        "mask_present": pa.array([[] if one is None else one.present.tolist() for one in masks], pa.list_(pa.bool_())),
        "mask_quality": pa.array(qualities, pa.list_(pa.float32())),
        "pasting": pa.array([None if one is None else one.pasting for one in masks], pa.string()),
    }


def _box_masks(instances: Instances) -> BoxMasks | None:
    assert instances.masks is None or isinstance(instances.masks, BoxMasks)  # what detectors answer
    return instances.masks


def _instances(batch: pa.RecordBatch) -> Iterator[Instances]:
    plain = {name: batch.column(name).to_pylist() for name in ("patch_size", "patches", "mask_quality", "pasting")}
    boxes, present = columns.boxes_of(batch.column("mask_boxes")), batch.column("mask_present").to_pylist()
    for i, one in enumerate(columns.to_instances(batch)):
        masks, size = None, plain["patch_size"][i]
        if size is not None:
            quality = plain["mask_quality"][i]
            masks = BoxMasks(
                boxes[i],
                np.frombuffer(plain["patches"][i], np.float16).reshape(-1, size, size),
                np.array(present[i], dtype=np.bool_),
                plain["pasting"][i],
                None if quality is None else np.array(quality, dtype=np.float32),
            )
        yield Instances(one.boxes, one.scores, one.labels, masks, one.source)
