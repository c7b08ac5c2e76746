"""The journal of a batch run: what was found in each image so far, in one file beside the results to be.

The file is only ever appended to, one checked record an image, so that a run killed at any moment leaves whole records
and at most one torn one at the end, which is cut off when the run goes on. The first record says of which run it is.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson
from safetensors.numpy import load, save

from tis_ray.errors import ConfigError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.submission.pipeline import ImageResult, Segmented
from tis_ray.views import View

_MAGIC = b"tis-ray batch run 2\n"
_FRAME = struct.Struct("<QI")  # bytes of the record, CRC-32 of them


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an image's record lies, the views that its answer lacks, and the bytes that its file had."""

    start: int
    missing: tuple[str, ...]
    file_bytes: int | None


def journal_path(out: Path) -> Path:
    """Where the journal of a run that writes `out` lies: `results.json.partial` beside `results.json`."""
    return out.with_name(f"{out.name}.partial")


class Journal:
    """Results by image; one process at a time may hold it. Of several records of an image the last one counts.

    `views` are those of the ensemble, in order, where results hold what each of them found.
    """

    def __init__(self, path: Path, file: FileIO, entries: Mapping[int, _Entry], views: Sequence[View] = ()) -> None:
        self.path = path
        self._views = tuple(views)
        self._file = file
        self._entries = dict(entries)
        self._end = file.seek(0, os.SEEK_END)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, run: Mapping[str, Any], *, resume: bool, views: Sequence[View] = ()) -> Iterator[Self]:
        """The journal of the run that `run` describes: a new one, or with `resume` the one that is there, if any.

        Raises `ConfigError` while another process holds it, where one is there and `resume` is false, and where it is
        of another run, naming the first key in which the two differ.
        """
        with _locked(path) as file:
            began, entries = _scan(file, path)
            if not entries:  # nothing would be lost
                _begin(file, run)
            elif not resume:
                raise ConfigError(
                    f"--out: {path} holds an unfinished run, {len(entries)} images; go on with it with --resume, "
                    "or delete it to begin anew"
                )
            else:
                _check_same(path, began, orjson.loads(orjson.dumps(run)))
            journal = cls(path, file, entries, views)
            try:
                yield journal
            finally:
                if not journal._entries:
                    path.unlink(missing_ok=True)

    def done(self, *, degraded: bool = False) -> set[int]:
        """Ids of the images that need not be looked at again; with `degraded` also those that lack views."""
        return {image_id for image_id, entry in self._entries.items() if degraded or not entry.missing}

    def changed(self, images: Iterable[ListedImage]) -> set[int]:
        """Ids of the images whose file is of another length than when it was looked at. One that is gone is not."""
        noted = ((image.id, self._entries[image.id].file_bytes, image.path) for image in images if image.id in self)
        return {image_id for image_id, before, path in noted if before != (_file_bytes(path) or before)}

    def __contains__(self, image_id: int) -> bool:
        return image_id in self._entries

    def append(self, result: ImageResult) -> None:
        """Note what was found in an image. Raises `OSError` where the disk is full; what is there stays good."""
        assert result.found is not None
        file_bytes = _file_bytes(result.image.path)
        about = {
            "image": result.image.id,
            "size_hw": result.size_hw,
            "missing": result.found.missing,
            "file_bytes": file_bytes,
            "views": [self._views.index(view) for view in result.found.views],
        }
        content = _arrays(result.found.instances)
        for number, found in zip(about["views"], result.found.views.values(), strict=True):
            content |= _arrays(found, prefix=f"{number}.")
        arrays = zlib.compress(save(content), 1)
        self._file.seek(self._end)
        try:
            _write_record(self._file, orjson.dumps(about) + b"\n" + arrays)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._entries[result.image.id] = _Entry(self._end, result.found.missing, file_bytes)
        self._end = self._file.tell()

    def read(self, image: ListedImage) -> ImageResult:
        """What was noted of an image. Raises `KeyError` where nothing was."""
        self._file.seek(self._entries[image.id].start)
        record = _read_record(self._file)
        assert record is not None
        about, _, arrays = record.partition(b"\n")
        content = orjson.loads(about)
        height, width = content["size_hw"]
        loaded = load(zlib.decompress(arrays))
        views = {self._views[number]: _instances(loaded, prefix=f"{number}.") for number in content["views"]}
        found = Segmented(_instances(loaded), views, tuple(content["missing"]))
        return ImageResult(image, (height, width), found)

    def remove(self) -> None:
        """Delete the file: the results are written."""
        self.path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """The file, made if need be and held against other processes."""
    while True:
        # Without a buffer: what a full disk did not take must not be tried again when the file is closed.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"--out: another process is writing {path}; wait until it has ended") from None
            except OSError:  # a file system without locks is trusted
                pass
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield file
                return
        # The process that held it has just finished and taken it away.


def _write_record(file: FileIO, record: bytes) -> None:
    left = memoryview(_FRAME.pack(len(record), zlib.crc32(record)) + record)
    while left:
        left = left[file.write(left) :]


def _read_record(file: FileIO) -> bytes | None:
    """The record at the file's position; None at the end and where it is torn or damaged."""
    frame = file.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    length, crc = _FRAME.unpack(frame)
    if length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    record = file.read(length)
    return record if len(record) == length and zlib.crc32(record) == crc else None


def _begin(file: FileIO, run: Mapping[str, Any]) -> None:
    file.truncate(0)
    file.seek(0)
    file.write(_MAGIC)
    _write_record(file, orjson.dumps(run))


def _scan(file: FileIO, path: Path) -> tuple[dict[str, Any], dict[int, _Entry]]:
    """The run and the whole records; whatever comes after them is cut off.

    Raises `ConfigError` for a file that is not a journal, which is not ours to overwrite.
    """
    magic = file.read(len(_MAGIC))
    if not _MAGIC.startswith(magic):
        raise ConfigError(f"--out: expected nothing or the journal of a batch run at {path}; it holds something else")
    began = _read_record(file)
    entries: dict[int, _Entry] = {}
    if began is None:
        return {}, entries
    while True:
        start = file.tell()
        record = _read_record(file)
        if record is None:
            file.truncate(start)
            return orjson.loads(began), entries
        about = orjson.loads(record.partition(b"\n")[0])
        entries[about["image"]] = _Entry(start, tuple(about["missing"]), about.get("file_bytes"))


def _file_bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _check_same(path: Path, began: dict[str, Any], now: dict[str, Any]) -> None:
    before, after = dict(_leaves(began)), dict(_leaves(now))
    for key in [*after, *before]:
        was, came = (repr(leaves[key]) if key in leaves else "nothing" for leaves in (before, after))
        if was != came:
            raise ConfigError(
                f"{key}: expected {was}, with which the unfinished run in {path} began; got {came} "
                "(go on as it began, or delete it)"
            )


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield ".".join(path), value


def _arrays(instances: Instances, *, prefix: str = "") -> dict[str, Any]:
    arrays = {name: getattr(instances, name) for name in ("boxes", "scores", "labels", "source")}
    if isinstance(instances.masks, BoxMasks):
        arrays |= {f"mask_{name}": getattr(instances.masks, name) for name in ("boxes", "probabilities", "present")}
        if instances.masks.quality is not None:
            arrays["mask_quality"] = instances.masks.quality
        arrays["mask_pasting"] = np.frombuffer(instances.masks.pasting.encode(), dtype=np.uint8)
    return {prefix + name: array for name, array in arrays.items()}


def _instances(arrays: dict[str, Any], *, prefix: str = "") -> Instances:
    masks = None
    if f"{prefix}mask_boxes" in arrays:
        boxes, probabilities, present = (
            arrays[f"{prefix}mask_{name}"] for name in ("boxes", "probabilities", "present")
        )
        pasting = arrays[f"{prefix}mask_pasting"].tobytes().decode()
        masks = BoxMasks(boxes, probabilities, present, pasting, arrays.get(f"{prefix}mask_quality"))
    boxes, scores, labels, source = (arrays[prefix + name] for name in ("boxes", "scores", "labels", "source"))
    return Instances(boxes, scores, labels, masks, source)
