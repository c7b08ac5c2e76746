"""Records put aside on disk by key and taken back together: grouping what comes in any order, in little memory."""

from collections import defaultdict
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from tis_ray.errors import DataError

_HELD_BYTES = 32 << 20


class Spool:
    """Lists of records by key. They wait in a file without a name, which goes with the process, even a killed one.

    What comes for a key in one stretch lies in one piece, so that files sorted by key cost a piece for each key, and
    files in any order a piece for each key and 32 MB. Memory holds that much, and where the pieces lie. Raises
    `DataError` for a folder that does not take the file, or no more of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Hashable, bytearray] = defaultdict(bytearray)  # one object for each key, not for each record
        self._held_bytes = 0
        self._pieces: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)  # where each begins and ends

    def __enter__(self) -> Self:
        try:
            self._file = TemporaryFile(dir=self._folder, prefix=".tis-ray-")
        except OSError as error:
            raise self._refused(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what a full disk did not take is tried again here
            self._file.close()

    def add(self, key: Hashable, record: bytes) -> None:
        """Append a record, a line of text, to the list of `key`."""
        held = self._held[key]
        held += record
        held += b"\n"
        self._held_bytes += len(record) + 1
        if self._held_bytes >= _HELD_BYTES:
            self._write()

    def take(self, key: Hashable) -> list[bytes]:
        """The records of `key` in the order in which they were added."""
        found = bytearray()
        for begin, end in self._pieces.pop(key, []):
            self._file.seek(begin)
            found += self._file.read(end - begin)
        found += self._held.pop(key, b"")
        return bytes(found).splitlines()

    def _write(self) -> None:
        try:
            begin = self._file.seek(0, 2)
            for key, records in self._held.items():
                end = begin + self._file.write(records)
                self._pieces[key].append((begin, end))
                begin = end
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from None
        self._held.clear()
        self._held_bytes = 0

    def _refused(self, error: OSError) -> DataError:
        where = f"{self._folder} (TMPDIR names another one)"
        return DataError(f"{where}: expected a folder that takes a temporary file; got {error.strerror}")
