"""Entries of a file that cannot be taken: named, counted by what is wrong, and refused or skipped."""

from collections import Counter
from dataclasses import dataclass, field

from tis_ray.errors import DataError

_SHOWN = 3


@dataclass(slots=True)
class BadEntries:
    """What was wrong in one file or more; with `skip` wrong entries are left out, else all are told and refused.

    counts: how many there are by what is wrong
    first:  the first few: where they are, the file first, and what is wrong with them
    """

    skip: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    first: list[tuple[object, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    def add(self, source: object, wrong: str, message: str) -> None:
        """One more entry of the file `source`, in which the field or fact `wrong` is.

        `message` names the entry, what was expected and what came.
        """
        self.counts[wrong] += 1
        if len(self.first) < _SHOWN:
            self.first.append((source, message))

    def check(self, source: object, what: str) -> None:
        """Raise `DataError` naming the file `source` and the wrong ones of its `what`, unless these may be skipped."""
        if self.total and not self.skip:
            messages = [message for _, message in self.first]
            raise DataError(f"{source}: {self._line(messages, what)}")

    def told(self, what: str) -> str:
        """All of it in a line, with files; empty where nothing is wrong."""
        return self._line([f"{source}: {message}" for source, message in self.first], what) if self.total else ""

    def _line(self, messages: list[str], what: str) -> str:
        if self.total == 1:
            return messages[0]
        kinds = ", ".join(f"{number} by {wrong}" for wrong, number in self.counts.most_common())
        more = "; ..." if self.total > len(messages) else ""
        return f"{self.total} {what} are wrong ({kinds}): {'; '.join(messages)}{more}"
