"""Instances of many images as Arrow columns, and back to the bit; and what a shard says of itself."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tis_ray.formats.arrow_arrays import array, numbers
from tis_ray.instances import Instances

BOX = pa.list_(pa.float32(), 4)
INSTANCES = {
    "boxes": pa.list_(BOX),  # x1, y1, x2, y2 in px of the image
    "scores": pa.list_(pa.float32()),
    "labels": pa.list_(pa.int32()),  # positions in the table of classes that the file's metadata hold
    "sources": pa.list_(pa.int32()),  # positions in the sorted list of views
}

_KEY = b"tis_ray"


def metadata(**about: Any) -> dict[bytes, str]:
    """What a shard says of itself, as a schema takes it: its `format`, its `run`, by digest, and more."""
    return {_KEY: json.dumps(about)}


def about(schema: pa.Schema, kind: str, run: str | None) -> dict[str, Any]:
    """What `metadata` was given. Raises `ValueError` for another format than `kind`, and another run than `run`; None
    takes any."""
    found: dict[str, Any] = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    if found.get("format") != kind:
        raise ValueError(f"another kind of Parquet file than '{kind}'")
    if run not in (None, found.get("run")):
        raise ValueError(f"a shard of the run {found.get('run')}, which is another one than {run}")
    return found


def of_instances(parts: Sequence[Instances]) -> dict[str, pa.Array]:
    """The columns of `INSTANCES`, one row for each of `parts`."""
    lengths = [len(part) for part in parts]
    return {
        "boxes": boxes_column([part.boxes for part in parts]),
        "scores": lists(joined([part.scores for part in parts], np.float32), lengths),
        "labels": lists(joined([part.labels for part in parts], np.int32), lengths),
        "sources": lists(joined([part.source for part in parts], np.int32), lengths),
    }


def to_instances(table: pa.RecordBatch) -> list[Instances]:
    """What `of_instances` was given, without masks."""
    columns = [boxes_of(table.column("boxes")), *(rows(table.column(name)) for name in ("scores", "labels", "sources"))]
    return [
        Instances(boxes, scores, labels, None, source) for boxes, scores, labels, source in zip(*columns, strict=True)
    ]


def boxes_column(parts: Sequence[NDArray[np.float32]]) -> pa.Array:
    """Boxes (N, 4) of each row."""
    flat = array(joined([part.reshape(-1) for part in parts], np.float32))
    return _listed(pa.FixedSizeListArray.from_arrays(flat, type=BOX), [len(part) for part in parts])


def boxes_of(column: pa.Array) -> list[NDArray[np.float32]]:
    """What `boxes_column` was given."""
    return [part.reshape(-1, 4) for part in _cut(numbers(column.values.values), 4 * _offsets(column))]


def lists(values: NDArray[Any], lengths: Sequence[int]) -> pa.Array:
    """Rows of so many of the values, in order."""
    return _listed(array(values), lengths)


def rows(column: pa.Array) -> list[NDArray[Any]]:
    """The values of each row of a column of lists of numbers."""
    return _cut(numbers(column.values), _offsets(column))


def joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """All of `parts` in one array, also where there are none."""
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _listed(values: pa.Array, lengths: Sequence[int]) -> pa.Array:
    ends = np.cumsum([0, *lengths]).astype(np.int32)
    return pa.ListArray.from_arrays(array(ends), values)


def _offsets(column: pa.Array) -> NDArray[np.int64]:
    return numbers(column.offsets).astype(np.int64)


def _cut(values: NDArray[Any], offsets: NDArray[np.int64]) -> list[NDArray[Any]]:
    return [values[start:stop] for start, stop in pairwise(offsets.tolist())]
