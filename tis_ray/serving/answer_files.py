"""Answers of many images, kept line by line as they come, and the files made of them: JSON, JSON Lines, COCO results.

The lines are only ever appended to: a run that is killed at any moment leaves whole lines and at most one torn one at
the end, which is cut off when the run goes on. What they hold is found by its place in the file, not kept in memory.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Self

import orjson

from tis_ray.errors import ConfigError
from tis_ray.formats.coco_results import ResultsWriter
from tis_ray.formats.json_file import write_json
from tis_ray.instances import Categories
from tis_ray.serving.answers import Result

FORMATS = ("json", "jsonl", "coco")
_BEGIN = b'{"file_name":'


def format_of(out: Path, named: str | None) -> str:
    """The format that was named, else the one that the suffix of `out` says. Raises `ConfigError` for another."""
    if named is None:
        return "jsonl" if out.suffix.lower() in (".jsonl", ".ndjson") else "json"
    if named not in FORMATS:
        raise ConfigError(f"--format: expected one of {', '.join(FORMATS)}; got '{named}'")
    return named


def lines_path(out: Path, format: str) -> Path:
    """Where the lines of a run that writes `out` lie: in `out` itself where it is of lines, else beside it."""
    return out if format == "jsonl" else out.with_name(f"{out.name}.partial")


class AnswerLines:
    """Answers by the name of their image, one line of JSON each; one process at a time may hold the file.

    A line is the service's answer with `file_name` before it and whatever else `about` says of the run.
    """

    def __init__(self, path: Path, file: FileIO, places: Mapping[str, int], about: Mapping[str, Any]) -> None:
        self.path = path
        self._file = file
        self._places = dict(places)
        self._about = dict(about)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, about: Mapping[str, Any], resume: bool) -> Iterator[Self]:
        """The lines at `path`: new ones, or with `resume` those that are there, if any.

        Every line has to say what `about` does. Raises `ConfigError` where one does not, where there are lines and
        `resume` is false, and while another process holds the file. A file that stays empty goes.
        """
        with _locked(path) as file:
            places = _scan(file, path, about)
            if places and not resume:
                raise ConfigError(
                    f"--out: {path} holds the answers of {len(places)} images already; go on with --resume, or delete "
                    "it to begin anew"
                )
            lines = cls(path, file, places, about)
            try:
                yield lines
            finally:
                if not lines.names:
                    lines.remove()

    @property
    def names(self) -> frozenset[str]:
        """Those images that have an answer."""
        return frozenset(self._places)

    def append(self, name: str, result: Result) -> None:
        """Keep an answer. Raises `OSError` where the disk is full; what is there stays good."""
        place = self._file.seek(0, os.SEEK_END)
        left = memoryview(orjson.dumps({"file_name": name, **self._about, **result.to_json()}) + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(place)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._places[name] = place

    def read(self, name: str) -> dict[str, Any]:
        """What was kept of an image. Raises `KeyError` where nothing was."""
        self._file.seek(self._places[name])
        line: dict[str, Any] = orjson.loads(_line(self._file))
        return line

    def remove(self) -> None:
        """Delete the file: nothing is in it, or all of it elsewhere."""
        self.path.unlink(missing_ok=True)

    def write(self, out: Path, format: str, names: Sequence[str], categories: Categories) -> None:
        """Write the answers of those of `names` that have one, in their order, into `out`; it appears when it is whole.

        COCO's results number the images from 1 in the order of `names`. Which number is which file, and the classes,
        stand beside them in `<out>.images.json`, as COCO has it.
        """
        kept = [(number, name) for number, name in enumerate(names, start=1) if name in self._places]
        if format == "json":
            with ResultsWriter(out) as writer:
                for _, name in kept:
                    writer.write([self.read(name)])
        elif format == "coco":
            images = []
            with ResultsWriter(out) as writer:
                for number, name in kept:
                    result = Result.from_json(self.read(name))
                    writer.write(result.to_coco(number))
                    images.append({"id": number, "file_name": name, "width": result.width, "height": result.height})
            write_json(out.with_suffix(".images.json"), {"images": images, "categories": categories.to_json()})


@contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """The file, made if need be and held against other processes."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            gone = True
        except OSError:  # a file system without locks is trusted
            gone = False
        if gone:  # held, or taken away between opening and locking it
            raise ConfigError(f"--out: another process is writing {path}; wait until it has ended")
        yield file


def _scan(file: FileIO, path: Path, about: Mapping[str, Any]) -> dict[str, int]:
    """Where each image's line begins; a torn last line is cut off. Of two lines of an image the later one counts."""
    places: dict[str, int] = {}
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        place = 0
        for number, line in enumerate(buffered, start=1):
            if not line.endswith(b"\n"):
                if not line.startswith(_BEGIN[: len(line)]):
                    raise _not_ours(f"{path}, line {number}")
                break
            places[_name_in(line, f"{path}, line {number}", about)] = place
            place += len(line)
    if place < os.fstat(file.fileno()).st_size:
        file.truncate(place)
    return places


def _name_in(line: bytes, where: str, about: Mapping[str, Any]) -> str:
    try:
        entry = orjson.loads(line)
        name, _ = entry["file_name"], entry["instances"]
        said = {key: entry[key] for key in about}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _not_ours(where) from None
    for key, value in about.items():
        if said[key] != value:
            raise ConfigError(
                f"{key}: expected {said[key]}, with which {where} was answered; got {value} (take another --out, or "
                "delete the file to begin anew)"
            )
    return str(name)


def _not_ours(where: str) -> ConfigError:
    return ConfigError(f"--out: expected nothing there, or answers to go on with; {where} is something else")


def _line(file: FileIO) -> bytes:
    """The line at the file's position, which is not buffered."""
    parts = []
    while part := file.read(1 << 16):
        end = part.find(b"\n") + 1
        parts.append(part[:end] if end else part)
        if end:
            break
    return b"".join(parts)
