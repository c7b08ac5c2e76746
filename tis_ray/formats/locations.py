"""Reading data where it lies: on this machine or, by URL, on a file system that fsspec knows.

A file system is asked for anew each time: fsspec keeps one for each process, and none of them survives a fork, by
which loader processes begin.
"""

import io
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tis_ray.config.data_path import absolute, is_remote, place
from tis_ray.errors import DataError

__all__ = [
    "absolute",
    "files_below",
    "is_dir",
    "is_file",
    "is_remote",
    "missing_files",
    "opened",
    "opened_text",
    "place",
    "read_bytes",
    "reason",
    "version",
]

_WAITS_S = (0.5, 2.0)  # after a failure that may pass
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_LISTED_FROM = 200  # files of one folder: so many are found sooner by listing it
_LOOKED_AT = 32  # of the files of a folder that cannot be listed
# What tells that a file has changed, as file systems name it.
_VERSIONS = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "updated",
    "mtime",
    "modified",
    "created",
)


def read_bytes(path: Path, *, what: str = "") -> bytes:
    """All of a file. Raises `DataError` naming it, and `what` it is, where it cannot be read."""
    if not is_remote(path):
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {what}cannot be read ({reason(error)})") from None
    for wait_s in (*_WAITS_S, None):
        try:
            file_system, name = _found(path)
            return bytes(file_system.cat_file(name))
        except Exception as error:  # each file system has failures of its own
            if wait_s is None or isinstance(error, _FINAL):
                raise DataError(f"{path}: {what}cannot be read ({reason(error)})") from None
            time.sleep(wait_s)
    raise AssertionError


def opened(path: Path, *, what: str = "") -> io.BufferedReader | io.BytesIO:
    """A file to read here and there in; of what lies behind a URL all is read first. Raises as `read_bytes` does."""
    if is_remote(path):
        return io.BytesIO(read_bytes(path, what=what))
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: {what}cannot be read ({reason(error)})") from None


def opened_text(path: Path) -> IO[str]:
    """A file of UTF-8 text to read from front to back, with or without a mark at its front; line ends stay.

    Raises `DataError` naming it. Reading on raises what the file system does, for `reason`.
    """
    try:
        if not is_remote(path):
            return path.open(encoding="utf-8-sig", newline="")
        file_system, name = _found(path)
        return io.TextIOWrapper(file_system.open(name, "rb"), encoding="utf-8-sig", newline="")
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None


def is_file(path: Path) -> bool:
    """Whether there is such a file; False too where that cannot be found out."""
    return path.is_file() if not is_remote(path) else _ask(path, "isfile")


def is_dir(path: Path) -> bool:
    """Whether there is such a folder; False too where that cannot be found out."""
    return path.is_dir() if not is_remote(path) else _ask(path, "isdir")


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and its sub-folders. Raises `DataError` where they cannot be listed."""
    if not is_remote(folder):
        return [path for path in folder.rglob("*") if path.is_file()]
    try:
        file_system, name = _found(folder)
        root = name.strip("/") + "/"
        return [folder / str(found).strip("/").removeprefix(root) for found in file_system.find(name)]
    except Exception as error:
        raise DataError(f"{folder}: cannot be listed ({reason(error)})") from None


def version(path: Path) -> tuple[int, str] | None:
    """Bytes of a file and what changes whenever it does; None where there is none or it has no such thing."""
    try:
        if not is_remote(path):
            found = path.stat()
            return found.st_size, str(found.st_mtime_ns)
        file_system, name = _found(path)
        about = file_system.info(name)
        told = [f"{key} {about[key]}" for key in _VERSIONS if about.get(key)]
        return (int(about["size"]), ", ".join(told)) if told else None
    except Exception:
        return None


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those of the `paths` that are no files, in their order.

    Of folders of which many files are asked for, one listing is. Where a file system cannot list (most web servers)
    some of the files stand for all.
    """
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    missing = {path for folder, listed in folders.items() for path in _missing_in(folder, listed)}
    return [path for path in paths if path in missing]


def _missing_in(folder: Path, paths: Sequence[Path]) -> list[Path]:
    names = _listing(folder) if len(paths) >= (_LOOKED_AT if is_remote(folder) else _LISTED_FROM) else None
    if names is not None and not (_is_web(folder) and names.isdisjoint(path.name for path in paths)):
        # Asked again: a file system may know a file by another spelling than it lists.
        return [path for path in paths if path.name not in names and (is_remote(folder) or not is_file(path))]
    return [path for path in (paths[:_LOOKED_AT] if is_remote(folder) else paths) if not is_file(path)]


def _listing(folder: Path) -> set[str] | None:
    """The names of a folder's files, None where they cannot be listed. A web server's page need not list any."""
    try:
        if not is_remote(folder):
            with os.scandir(folder) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        file_system, name = _found(folder)
        return {str(found).rstrip("/").rpartition("/")[2] for found in file_system.ls(name, detail=False)}
    except FileNotFoundError:
        return None if _is_web(folder) else set()
    except Exception:
        return None


def _is_web(path: Path) -> bool:
    return str(path).startswith(("http://", "https://"))


def _ask(path: Path, question: str) -> bool:
    try:
        file_system, name = _found(path)
        return bool(getattr(file_system, question)(name))
    except Exception:
        return False


def _found(path: Path) -> tuple[Any, str]:
    """The file system of a URL in this process, and how it names the file."""
    from fsspec.core import url_to_fs

    file_system, name = url_to_fs(str(path))
    return file_system, str(name)


def reason(error: Exception) -> str:
    """Why something cannot be read, in few words."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.strerror:  # aiohttp has its own
        return error.strerror
    if isinstance(error, FileNotFoundError):
        return "No such file"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
