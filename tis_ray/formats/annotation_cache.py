"""Large COCO files are parsed and checked once: what they hold is kept in Parquet files and read from there next time.

The files lie in `$TIS_RAY_CACHE`, else in `tis-ray/annotations` of the user's cache folder (`$XDG_CACHE_HOME`, else
`~/.cache`); `TIS_RAY_CACHE=off` keeps none. A file belongs to the place of its JSON, and holds for one size and time
of change of it. Of the processes that open the same JSON at the same time one parses, the others wait. Whatever goes
wrong with a cache, the JSON is read.
"""

import fcntl
import glob
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tis_ray.formats import coco, coco_parquet
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.coco_columns import CocoColumns
from tis_ray.formats.locations import absolute, is_remote, place, version
from tis_ray.whole_files import PARTIAL, replacing

VARIABLE, OFF = "TIS_RAY_CACHE", "off"
LEAST_BYTES = 4 << 20  # less is read in half a second
_DIGITS = 16
_FORMAT = 1  # one more whenever the columns or the checks of the JSON change

logger = logging.getLogger(__name__)


def read(annotations: Path | str, images: Path | str | None = None, *, least_bytes: int = LEAST_BYTES) -> CocoDataset:
    """What `coco.read` answers, from the cache where that has the file as it is now; else it is parsed and kept there.

    Files of less than `least_bytes` are always parsed. Entries from the cache have the keys that `GroundTruth.entries`
    promises and no others, and their RLEs are compressed. Raises `DataError` as `coco.read` does.
    """
    path = place(annotations)
    stamp = _stamp(path, least_bytes)
    folder = None if stamp is None else cache_folder()
    if stamp is None or folder is None:
        return coco.read(path, images)
    file = folder / f"{path.stem}-{hashlib.sha256(stamp[0].encode()).hexdigest()[:_DIGITS]}.parquet"
    if (found := _load(file, path, images, stamp)) is not None:
        return found
    with _locked(file.with_suffix(".lock")):
        if (found := _load(file, path, images, stamp)) is not None:  # another process has just written it
            return found
        return _keep(coco.read(path, images), file, stamp)


def cache_folder() -> Path | None:
    """Where caches lie, whether or not that exists; None where the environment says that none are to be kept."""
    asked = os.environ.get(VARIABLE)
    if asked:
        return None if asked == OFF else Path(asked)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tis-ray" / "annotations"
    except RuntimeError:  # a user without a home
        return None


def _stamp(path: Path, least_bytes: int) -> list[str] | None:
    """Place, size and time of change of a file and the format of its cache; None where it is small, or is not there."""
    found = version(path)
    if found is None or found[0] < least_bytes:
        return None
    return [str(absolute(path)), *map(str, found), str(_FORMAT)]


def _load(file: Path, path: Path, images: Path | str | None, stamp: list[str]) -> CocoDataset | None:
    try:
        if coco_parquet.read_notes(file) != stamp:
            return None
        rows, categories, columns = coco_parquet.read(file)
    except Exception:  # there is none, or whatever it holds will be replaced
        return None
    first = rows[0].file_name if rows else None
    folder = place(images) if images is not None else coco.image_folder(path, first)
    return CocoDataset(path, [row.record(folder) for row in rows], categories, columns)


def _keep(dataset: CocoDataset, file: Path, stamp: list[str]) -> CocoDataset:
    """The data set in columns, which are in `file` from now on, if they can be written."""
    entries = [entry for record in dataset.images for entry in dataset.entries(record.id)]
    try:
        columns = CocoColumns.of(dataset.images, entries)
    except OverflowError:
        return dataset
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            coco_parquet.write(partial, dataset.images, dataset.categories, columns, stamp)
        _forget(file)
    except Exception as error:  # a training must not end for want of a cache
        logger.warning("%s cannot be written, %s will be parsed each time: %s", file, dataset.path, error)
    return CocoDataset(dataset.path, dataset.images, dataset.categories, columns)


def _forget(file: Path) -> None:
    """Remove the caches, and their locks, of JSONs of the same name on this machine that are there no more, and what
    processes that were killed had begun to write.
    """
    stem = file.stem.rpartition("-")[0]
    for other in file.parent.glob(f"{glob.escape(stem)}-{'[0-9a-f]' * _DIGITS}.parquet"):
        if other != file and _is_of_nothing(other):
            other.unlink(missing_ok=True)
            other.with_suffix(".lock").unlink(missing_ok=True)
    for left in file.parent.glob(f"{PARTIAL}*-{glob.escape(file.name)}"):  # nobody else writes: the lock is held
        left.unlink(missing_ok=True)


def _is_of_nothing(file: Path) -> bool:
    """Whether the JSON was on this machine and is not any more."""
    try:
        source = place(coco_parquet.read_notes(file)[0])
    except Exception:  # of a package that is not installed, or no cache at all
        return False
    return not is_remote(source) and not source.exists()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Alone among processes, where the file system can do that."""
    with ExitStack() as stack:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(file.open("a")), fcntl.LOCK_EX)
        yield
