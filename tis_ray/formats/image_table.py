"""Lists of images as Parquet tables: `path` or `file_name`, and where wanted `id`, `height`, `width`.

`path` says where a file lies and `file_name` what it is called in results; one stands for both. Ids are whole numbers,
each given once; without them images are numbered from 1 in the order of the table. Other columns are not read.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tis_ray.errors import DataError
from tis_ray.formats import locations

_TEXTS = ("path", "file_name")
_NUMBERS = ("id", "height", "width")


@dataclass(frozen=True, slots=True)
class Row:
    """An image of a table; `file_name` is None where the table does not say it beside the path."""

    id: int
    path: str
    file_name: str | None
    size_hw: tuple[int, int] | None


def read(path: Path) -> list[Row]:
    """The rows of a table by ascending id. Raises `DataError` naming file, row and column of what is wrong."""
    columns = _columns(path)
    places = columns.get("path", columns.get("file_name"))
    if places is None:
        raise DataError(f"{path}: expected a column path or file_name; got {', '.join(columns) or 'neither'}")
    count = len(places)
    ids = columns.get("id", list(range(1, count + 1)))
    names = columns["file_name"] if "path" in columns and "file_name" in columns else [None] * count
    rows = []
    for i, size in enumerate(_sizes(columns, count)):
        for column, value, kind in (("id", ids[i], int), ("path", places[i], str)):
            if not isinstance(value, kind) or value == "":
                raise DataError(f"{path}: row {i}: {column}: expected one; got {value!r}")
        rows.append(Row(ids[i], places[i], names[i], size))
    double, number = Counter(ids).most_common(1)[0] if ids else (0, 0)
    if number > 1:
        raise DataError(f"{path}: id: expected each id once; got {double} more than once")
    return sorted(rows, key=lambda row: row.id)


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        with locations.opened(path) as file, pq.ParquetFile(file) as stored:
            schema = stored.schema_arrow
            wanted = [name for name in (*_TEXTS, *_NUMBERS) if name in schema.names]
            for name in wanted:
                kind, fits = schema.field(name).type, pa.types.is_integer if name in _NUMBERS else _is_text
                if not fits(kind):
                    expected = "whole numbers" if name in _NUMBERS else "texts"
                    raise DataError(f"{path}: {name}: expected a column of {expected}; got {kind}")
            return {name: stored.read(columns=[name]).column(name).to_pylist() for name in wanted}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file; got {error}") from None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _sizes(columns: dict[str, list[Any]], count: int) -> list[tuple[int, int] | None]:
    heights, widths = (columns.get(name, [None] * count) for name in ("height", "width"))
    return [(height, width) if height and width else None for height, width in zip(heights, widths, strict=True)]
