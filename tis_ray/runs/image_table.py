"""The list of a run's images as a Parquet file."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray import whole_files
from tis_ray.config.data_path import place
from tis_ray.formats.image_list import ListedImage


def write(path: Path, images: Sequence[ListedImage]) -> None:
    """Write the list, whole and flushed to the disk. Raises `OSError`; nothing has changed then."""
    table = pa.table(
        {
            "image_id": pa.array([image.id for image in images], pa.int64()),
            "file_name": pa.array([image.file_name for image in images], pa.string()),
            "path": pa.array([str(image.path) for image in images], pa.string()),
            "height": pa.array([image.size_hw and image.size_hw[0] for image in images], pa.int32()),
            "width": pa.array([image.size_hw and image.size_hw[1] for image in images], pa.int32()),
        }
    )
    with whole_files.replacing(path, durable=True) as partial:
        pq.write_table(table, partial, compression="zstd")


def read(path: Path) -> list[ListedImage]:
    """What `write` was given. Raises `OSError`, `KeyError` and Arrow's errors for anything else."""
    table = pq.read_table(path)
    columns = (table.column(name).to_pylist() for name in ("image_id", "file_name", "path", "height", "width"))
    return [
        ListedImage(image_id, file_name, place(file), None if height is None else (height, width))
        for image_id, file_name, file, height, width in zip(*columns, strict=True)
    ]
