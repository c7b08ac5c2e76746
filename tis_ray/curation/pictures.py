"""The files of a data set's pictures: whether they are there, whole, and of the size that is listed."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from tis_ray.curation.problems import Problem
from tis_ray.errors import DataError
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.images import header_of, image_of
from tis_ray.formats.locations import is_file, is_remote, opened

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what a whole file has near its end
_TAIL = 1 << 16  # bytes: some cameras and programs write on behind it


def check_picture(record: ImageRecord, *, decode: bool) -> tuple[int | None, list[Problem]]:
    """The size of a picture's file in bytes, None where there is none, and what is wrong with it.

    The header is read and, for JPEG and PNG, whether the file goes on to its end; with `decode`, or where that is in
    doubt, every pixel. Of what lies behind a URL all is read, once.
    """
    path = record.path
    if not _is_there(path):
        return None, [Problem("missing picture", str(path))]
    size, problems = None, []
    try:
        with opened(path, what="image ") as file:
            size = file.seek(0, os.SEEK_END)
            header = header_of(path, file)
            if decode or not _has_end(file, size, header.kind):
                file.seek(0)
                image_of(path, file.read())
    except DataError as error:
        return size, [Problem("unreadable picture", str(error))]
    if (header.height, header.width) != (record.height, record.width):
        listed = f"{record.width}x{record.height}"
        problems.append(Problem("other size", f"{path}: {header.width}x{header.height}; listed as {listed}"))
    if header.orientation != 1:
        problems.append(Problem("rotated picture", f"{path}: orientation {header.orientation}"))
    return size, problems


def copies(sizes: Iterable[tuple[Path, int | None]]) -> Iterator[tuple[Path, Path]]:
    """Pairs of a file and an earlier one of the same content. Files of one size alone are read for it."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path, size in sizes:
        if size is not None:
            by_size[size].append(path)
    for alike in by_size.values():
        first: dict[bytes, Path] = {}
        for path in alike if len(alike) > 1 else ():
            if (digest := _digest(path)) is None:
                continue
            if digest in first:
                yield path, first[digest]
            first.setdefault(digest, path)


def _digest(path: Path) -> bytes | None:
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (DataError, OSError):
        return None


def _is_there(path: Path) -> bool:
    """Whether there is something of that name, be it no picture."""
    return is_file(path) if is_remote(path) else path.exists()


def _has_end(file: IO[bytes], size: int, kind: str) -> bool:
    """Whether a file of this kind has its end mark; of other kinds nothing is known without decoding them."""
    if kind not in _ENDS:
        return True
    file.seek(size - min(_TAIL, size))
    return _ENDS[kind] in file.read()
