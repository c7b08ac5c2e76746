"""A checked COCO data set as one Parquet file: a row for each image, sorted by id, with its annotations within.

`segmentation` is there as `polygons` or as `rle`, COCO's compressed counts; the classes are in the file's metadata.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.formats.arrow_arrays import array, numbers
from tis_ray.formats.coco_columns import NOT_SAID, CocoColumns
from tis_ray.formats.dataset import Federated, ImageRecord
from tis_ray.instances import Categories

_KEY = b"tis_ray"
_IMAGES_AT_ONCE = 4096  # bounds what reading takes beside the columns
_BBOX = ("x", "y", "width", "height")


class ImageRow(NamedTuple):
    """An image but for the folder that it is in."""

    id: int
    file_name: str
    height: int
    width: int
    absent: list[int] | None
    not_exhaustive: list[int] | None

    def record(self, folder: Path) -> ImageRecord:
        """The image in `folder`."""
        federated = None if self.absent is None else Federated(tuple(self.absent), tuple(self.not_exhaustive or ()))
        return ImageRecord(self.id, self.file_name, folder / self.file_name, self.height, self.width, federated)


def write(
    file: Path,
    records: Sequence[ImageRecord],
    categories: Categories,
    columns: CocoColumns,
    notes: Sequence[str],
) -> None:
    """Write a data set of `records`, sorted by id, with `notes` on it."""
    federated = [_federated(record) for record in records]
    table = pa.table(
        {
            "id": pa.array([record.id for record in records], pa.int64()),
            "file_name": pa.array([record.file_name for record in records], pa.string()),
            "height": pa.array([record.height for record in records], pa.int64()),
            "width": pa.array([record.width for record in records], pa.int64()),
            "absent": pa.array([absent for absent, _ in federated], pa.list_(pa.int64())),
            "not_exhaustive": pa.array([listed for _, listed in federated], pa.list_(pa.int64())),
            "annotations": pa.LargeListArray.from_arrays(array(columns.starts), _annotations(columns)),
        }
    )
    about = {"notes": list(notes), "categories": categories.to_json(), "lengths": columns.lengths}
    table = table.replace_schema_metadata({_KEY: json.dumps(about)})
    pq.write_table(table, file, compression="zstd", row_group_size=_IMAGES_AT_ONCE)


def read_notes(file: Path) -> list[str]:
    """The notes of a file, without reading more of it. Raises `OSError` or `ValueError` for a file of another kind."""
    notes: list[str] = _about(pq.read_schema(file))["notes"]
    return notes


def read(file: Path) -> tuple[list[ImageRow], Categories, CocoColumns]:
    """What was written. Raises as `read_notes` does."""
    rows: list[ImageRow] = []

    def parts(stored: pq.ParquetFile) -> Iterator[CocoColumns]:
        for i in range(stored.num_row_groups):
            table = stored.read_row_group(i)
            values = (table.column(name).to_pylist() for name in ImageRow._fields)
            rows.extend(ImageRow(*row) for row in zip(*values, strict=True))
            for annotations in table.column("annotations").chunks:
                yield _columns(annotations)

    with pq.ParquetFile(file) as stored:  # opened once: another process may put a new file in its place
        about = _about(stored.schema_arrow)
        columns = CocoColumns.joined(parts(stored), about["lengths"])
    return rows, Categories.from_json(about["categories"]), columns


def _annotations(columns: CocoColumns) -> pa.StructArray:
    points = pa.LargeListArray.from_arrays(array(columns.point_starts), array(columns.points))
    rle = [None, pa.py_buffer(columns.rle_starts), pa.py_buffer(columns.rle_bytes)]
    fields = {
        "id": array(columns.ids),
        "category_id": array(columns.category_ids),
        **{name: array(np.ascontiguousarray(columns.bboxes[:, i])) for i, name in enumerate(_BBOX)},
        "area": array(columns.areas, known=~np.isnan(columns.areas)),
        "iscrowd": array(columns.crowd, known=columns.crowd != NOT_SAID),
        "polygons": pa.LargeListArray.from_arrays(array(columns.polygon_starts), points),
        "rle": pa.Array.from_buffers(pa.large_binary(), len(columns), rle),
    }
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _columns(annotations: pa.LargeListArray) -> CocoColumns:
    struct = annotations.values
    fields = {name: struct.field(name) for name in struct.type.names}
    polygons, rle = fields["polygons"], fields["rle"]
    _, rle_starts, rle_bytes = rle.buffers()
    return CocoColumns(
        starts=numbers(annotations.offsets),
        ids=numbers(fields["id"]),
        category_ids=numbers(fields["category_id"]),
        bboxes=np.stack([numbers(fields[name]) for name in _BBOX], axis=1),
        areas=numbers(fields["area"], unknown=np.nan),
        crowd=numbers(fields["iscrowd"], unknown=NOT_SAID),
        polygon_starts=numbers(polygons.offsets),
        point_starts=numbers(polygons.values.offsets),
        points=numbers(polygons.values.values),
        rle_starts=np.frombuffer(rle_starts, np.int64, count=len(rle) + 1) if len(rle) else np.zeros(1, np.int64),
        rle_bytes=np.frombuffer(rle_bytes or b"", np.uint8),
    )


def _federated(record: ImageRecord) -> tuple[list[int] | None, list[int] | None]:
    known = record.federated
    return (None, None) if known is None else (list(known.absent), list(known.not_exhaustive))


def _about(schema: pa.Schema) -> Any:
    try:
        return json.loads(schema.metadata[_KEY])
    except (KeyError, TypeError):
        raise ValueError("expected a file of a checked COCO data set") from None
