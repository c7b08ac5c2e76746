"""Files and folders that are there whole or not at all: a kill while one is written leaves what was there before.

They are written under another name in the same folder, which begins with `PARTIAL`, and renamed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

PARTIAL = ".partial-"
_CANNOT_SAY = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}


def write(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8. Raises `OSError`, and nothing has changed."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Where to write a file or a folder, which becomes `path` at the end of the block.

    Where the block raises, what was written is removed, and what was there before stays. `durable`: see `replace`.
    """
    partial = partial_of(path)
    try:
        yield partial
        replace(partial, path, durable=durable)
    finally:
        remove(partial)


def partial_of(path: Path) -> Path:
    """A name beside `path` that nobody else writes at, on this machine or another one; its suffix is the same."""
    return path.with_name(f"{PARTIAL}{uuid4().hex[:8]}-{path.name}")


def replace(written: Path, path: Path, *, durable: bool = False) -> None:
    """Make a file or folder that is whole become `path`; what was there before is gone.

    With `durable` it is first waited for until all of it has reached the disk, and then until its name has.
    """
    if durable:
        for part in [*(written.iterdir() if written.is_dir() else ()), written]:
            flush(part)
    old = path.with_name(f"{PARTIAL}old-{path.name}")
    if written.is_dir() and path.exists():
        remove(old)  # left by a process that was killed
        path.replace(old)
    written.replace(path)
    if durable:
        flush(path.parent)
    remove(old)


def remove(partial: Path) -> None:
    """Delete a file or folder, if it is there, as far as that is possible."""
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file or folder has reached the disk; file systems that cannot say so are trusted.

    Others, such as NFS, say only now that the disk is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SAY:
            raise
    finally:
        os.close(descriptor)
