"""Result shards: Parquet files with one row for each image, in the order of the run's list.

Any tool that reads Parquet reads them; the columns are in `SCHEMA` and in docs/batch.md. `masks` are COCO's compressed
RLE counts, null for an instance without a mask; `mask_quality` is the IoU that a detector says its mask has with the
object, null where none says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tis_ray import whole_files
from tis_ray.errors import DataError
from tis_ray.instances import Categories, Instances
from tis_ray.masks import RunMasks
from tis_ray.ops import rle as rle_ops
from tis_ray.ops.rle import Rle
from tis_ray.runs import columns
from tis_ray.runs.records import ImageOutcome, Status, ViewOutcome

VIEW = pa.struct({"view": pa.string(), "status": pa.string(), "seconds": pa.float64(), "num_instances": pa.int32()})
SCHEMA = pa.schema(
    {
        "image_id": pa.int64(),
        "file_name": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "status": pa.string(),
        "error": pa.string(),
        **columns.INSTANCES,
        "masks": pa.list_(pa.string()),
        "mask_quality": pa.list_(pa.float32()),
        "views": pa.list_(VIEW),
        "file_bytes": pa.int64(),
        "model_version": pa.string(),
    }
)
_FORMAT = "results 1"


def write(path: Path, outcomes: Sequence[ImageOutcome], categories: Categories, run: str) -> None:
    """Write a shard of the run of this digest, whole and flushed to the disk.

    Raises `OSError`; nothing has changed then.
    """
    about = columns.metadata(format=_FORMAT, run=run, categories=categories.to_json())
    table = pa.table(_columns(outcomes), schema=SCHEMA.with_metadata(about))
    with whole_files.replacing(path, durable=True) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def read(path: Path, run: str | None = None) -> Iterator[ImageOutcome]:
    """The images of a shard, one at a time; masks come as exact pixels.

    Raises `DataError` for a file that is missing, damaged, of another kind, or of another run where `run` is its
    digest.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stored:
            columns.about(stored.schema_arrow, _FORMAT, run)
            for batch in stored.iter_batches(batch_size=16):
                yield from _outcomes(batch)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: expected a shard of a batch run; got {error}") from None


@dataclass(frozen=True, slots=True)
class Noted:
    """What a run that goes on has to know of an image; see `ImageOutcome`."""

    image_id: int
    status: Status
    file_bytes: int | None


def noted(path: Path, run: str) -> list[Noted]:
    """The images of a shard without what was found in them, though all of it was read and its checksums hold.

    Raises `DataError` as `read` does.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stored:
            columns.about(stored.schema_arrow, _FORMAT, run)
            table = stored.read()
        rows = (table.column(name).to_pylist() for name in ("image_id", "status", "file_bytes"))
        return [Noted(*row) for row in zip(*rows, strict=True)]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: expected a shard of a batch run; got {error}") from None


def _columns(outcomes: Sequence[ImageOutcome]) -> dict[str, Any]:
    masks = [_masks(one) for one in outcomes]
    views = [[{key: getattr(view, key) for key in VIEW.names} for view in one.outcomes] for one in outcomes]
    return {
        "image_id": pa.array([one.image_id for one in outcomes], pa.int64()),
        "file_name": pa.array([one.file_name for one in outcomes], pa.string()),
        "height": pa.array([one.size_hw[0] for one in outcomes], pa.int32()),
        "width": pa.array([one.size_hw[1] for one in outcomes], pa.int32()),
        "status": pa.array([one.status for one in outcomes], pa.string()),
        "error": pa.array([one.error for one in outcomes], pa.string()),
        **columns.of_instances([one.instances for one in outcomes]),
        "masks": pa.array(masks, pa.list_(pa.string())),
        "mask_quality": pa.array([_quality(one.instances) for one in outcomes], pa.list_(pa.float32())),
        "views": pa.array(views, pa.list_(VIEW)),
        "file_bytes": pa.array([one.file_bytes for one in outcomes], pa.int64()),
        "model_version": pa.array([one.model_version for one in outcomes], pa.string()),
    }


def _masks(outcome: ImageOutcome) -> list[str | None] | None:
    if outcome.instances.masks is None:
        return None
    return [None if rle is None else rle["counts"] for rle in outcome.instances.masks.to_rle(*outcome.size_hw)]


def _quality(instances: Instances) -> list[float] | None:
    quality = None if instances.masks is None else instances.masks.quality
    return None if quality is None else quality.tolist()


def _outcomes(batch: pa.RecordBatch) -> Iterator[ImageOutcome]:
    plain = {name: batch.column(name).to_pylist() for name in SCHEMA.names if name not in columns.INSTANCES}
    for i, instances in enumerate(columns.to_instances(batch)):
        size_hw = (plain["height"][i], plain["width"][i])
        masks = _to_masks(plain["masks"][i], plain["mask_quality"][i], size_hw)
        yield ImageOutcome(
            image_id=plain["image_id"][i],
            file_name=plain["file_name"][i],
            size_hw=size_hw,
            status=plain["status"][i],
            instances=Instances(instances.boxes, instances.scores, instances.labels, masks, instances.source),
            error=plain["error"][i],
            outcomes=tuple(ViewOutcome(**view) for view in plain["views"][i]),
            file_bytes=plain["file_bytes"][i],
            model_version=plain["model_version"][i],
        )


def _to_masks(
    counts: list[str | None] | None, quality: list[float] | None, size_hw: tuple[int, int]
) -> RunMasks | None:
    if counts is None:
        return None
    present = np.array([one is not None for one in counts], dtype=np.bool_)
    nothing = rle_ops.from_counts([size_hw[0] * size_hw[1]], *size_hw)
    rles: list[Rle] = [nothing if one is None else {"size": list(size_hw), "counts": one} for one in counts]
    qualities: NDArray[np.float32] | None = None if quality is None else np.array(quality, dtype=np.float32)
    return RunMasks(rle_ops.to_runs(rles, *size_hw), present, qualities)
