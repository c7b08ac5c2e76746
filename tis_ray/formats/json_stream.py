"""A JSON file read from front to back, one value at a time: memory follows the value, not the file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tis_ray.errors import DataError
from tis_ray.formats.locations import opened_text, place, reason

_CHUNK = 1 << 20  # characters
_NEAR = 64  # characters: a fault this close to the end of what was read may be a value that goes on
_UNTERMINATED = "Unterminated string"
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonStream:
    """`with JsonStream(path) as stream:`, then what the file has, in its order: `value`, `items`, `members`, `end`.

    NaN and Infinity are accepted, so that a later check can name their field. Each of them raises `DataError` for a
    file that is missing, unreadable, cut short or not JSON, with line and column.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = place(path)
        self._text = ""  # what was read and not dropped yet
        self._at = 0  # how much of it is behind us
        self._line, self._column = 1, 1  # of where `_text` begins

    def __enter__(self) -> Self:
        self._file = opened_text(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def peek(self) -> str:
        """The first character of what comes next, '' at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """The next value as a whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                ahead = error.pos - self._at
                goes_on = error.pos >= len(self._text) - _NEAR or error.msg.startswith(_UNTERMINATED)
                if not (goes_on and self._read()):
                    raise self._wrong(self._at + ahead, error.msg) from None
            except RecursionError:
                raise self._wrong(self._at, "nested too deeply") from None
            except ValueError as error:  # a number of more digits than Python reads
                raise self._wrong(self._at, str(error)) from None
            else:
                ahead = end - self._at  # reading on moves everything
                if end < len(self._text) - _NEAR or not self._read():  # a number may go on
                    self._at += ahead
                    return value

    def items(self) -> Iterator[Any]:
        """The values of the list that comes next."""
        self._take("[")
        if self.peek() != "]":
            yield self.value()
            while self.peek() == ",":
                self._take(",")
                yield self.value()
        self._take("]", "Expecting ',' delimiter")

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; after each, its value is to be taken or skipped."""
        self._take("{")
        if self.peek() != "}":
            yield self._key()
            while self.peek() == ",":
                self._take(",")
                yield self._key()
        self._take("}", "Expecting ',' delimiter")

    def skip(self) -> None:
        """Pass over the next value; of a list, no more than one item at a time is held."""
        if self.peek() != "[":
            self.value()
            return
        for _ in self.items():
            pass

    def end(self) -> None:
        """Refuse what follows after the last value."""
        if self.peek():
            raise self._wrong(self._at, "Extra data")

    def _key(self) -> str:
        if self.peek() != '"':
            raise self._wrong(self._at, "Expecting property name enclosed in double quotes")
        key = self.value()
        self._take(":")
        return str(key)

    def _take(self, character: str, complaint: str | None = None) -> None:
        if self.peek() != character:
            raise self._wrong(self._at, complaint or f"Expecting '{character}'")
        self._at += 1

    def _read(self) -> bool:
        """Drop what is behind us and read on; whether there was more."""
        self._line, self._column = self._place(self._at)
        rest = self._text[self._at :]
        try:
            chunk = self._file.read(max(_CHUNK, len(rest)))  # twice as much each time: a long value is tried again
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: expected a JSON file; got bytes that are not UTF-8 text") from None
        except Exception as error:  # each file system has failures of its own
            raise DataError(f"{self.path}: cannot be read ({reason(error)})") from None
        self._text, self._at = rest + chunk, 0
        return bool(chunk)

    def _place(self, position: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, position)
        column = position - self._text.rfind("\n", 0, position) if lines else self._column + position
        return self._line + lines, column

    def _wrong(self, position: int, complaint: str) -> DataError:
        line, column = self._place(position)
        last = position >= len(self._text.rstrip()) - 1 and complaint != "Extra data"
        reason = "cut short" if last or complaint.startswith(_UNTERMINATED) else "not valid JSON"
        return DataError(f"{self.path}: {reason} at line {line}, column {column}: {complaint}")
