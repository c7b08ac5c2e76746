"""Numbers between NumPy and Arrow, by their buffers: pyarrow's own ways import pandas, a second and 50 MB of it."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ARROW = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
_NUMPY = {"float": "float32", "double": "float64"}


def array(values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> pa.Array:
    """An Arrow array of `values` (N,); null where `known` (N,) is false."""
    values = np.ascontiguousarray(values)
    mask = None if known is None else pa.py_buffer(np.packbits(known, bitorder="little"))
    content = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values
    return pa.Array.from_buffers(_ARROW[values.dtype.name], len(values), [mask, pa.py_buffer(content)])


def numbers(array: pa.Array, *, unknown: float | None = None) -> NDArray[Any]:
    """The values (N,) of an Arrow array of numbers or truths; nulls become `unknown`, where that is given."""
    mask, content = array.buffers()
    if pa.types.is_boolean(array.type):
        return _bits(content, array)
    name = str(array.type)
    dtype = np.dtype(_NUMPY.get(name, name))
    values = np.frombuffer(content or b"", dtype, count=len(array), offset=array.offset * dtype.itemsize)
    if mask is None or unknown is None:
        return values
    return np.where(_bits(mask, array), values, dtype.type(unknown))


def _bits(packed: pa.Buffer | None, array: pa.Array) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(packed or b"", np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)
