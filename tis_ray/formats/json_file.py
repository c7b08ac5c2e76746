"""Reading and writing JSON files so that every complaint names the file."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from tis_ray import whole_files
from tis_ray.errors import DataError
from tis_ray.formats import locations


def load_json(path: Path) -> Any:
    """The content of a JSON file; NaN and Infinity are accepted, so that a later check can name their field.

    Raises `DataError` for a file that is missing, unreadable, cut short or not JSON at all.
    """
    data = locations.read_bytes(path)
    try:
        with _no_collecting():
            return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # orjson knows no NaN; the standard library does, and says where a file breaks off
    try:
        return json.loads(data)
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected a JSON file; got bytes that are not UTF-8 text") from None
    except json.JSONDecodeError as error:
        reason = "cut short" if error.pos >= len(data.rstrip()) - 1 else "not valid JSON"
        raise DataError(f"{path}: {reason} at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise DataError(f"{path}: not valid JSON: nested too deeply") from None


def write_json(path: Path, content: Any, *, indented: bool = False) -> None:
    """Write `content`; the file appears when it is whole. Raises `DataError` where it cannot be written."""
    try:
        whole_files.write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 if indented else None))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Python looks for garbage again and again while lists and dicts pile up; of millions it makes half the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
