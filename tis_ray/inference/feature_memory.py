"""What a member made of a picture's views, kept for a second question about the same picture.

Features are large and soon of no use, so they are kept by bytes and by age. Whoever asks for what is gone computes it
anew.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from tis_ray.models.pyramid_align import Features, SizesHW

MAX_BYTES = 2 * 2**30
MAX_AGE_S = 60.0


class Remembered(NamedTuple):
    """A batch as mask heads need it: its features, and its images' sizes before padding."""

    features: Features
    sizes_hw: SizesHW

    @property
    def nbytes(self) -> int:
        """How much memory the features hold, each piece counted once however many tensors share it."""
        storages = (one.untyped_storage() for one in self.features.values())
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def part(self, start: int, count: int) -> "Remembered":
        """Copies of `count` images' features from the one at `start` on, which keep nothing else alive."""
        own = {name: level[start : start + count].clone() for name, level in self.features.items()}
        return Remembered(own, self.sizes_hw[start : start + count])


class _Entry(NamedTuple):
    remembered: Remembered
    nbytes: int
    forgotten_at: float


class FeatureMemory:
    """Features by the key of a picture and the group of views that shared a forward; for several threads at once.

    At most `max_bytes` are held, where the least recently used leave first. What was put `max_age_s` seconds ago is
    gone for whoever asks; its memory is free with the next call of any method. `clock` tells seconds.
    """

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        max_age_s: float = MAX_AGE_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self._clock = clock
        self._entries: OrderedDict[tuple[str, Hashable], _Entry] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def put(self, key: str, group: Hashable, remembered: Remembered) -> None:
        """Keep the features of one group of views. What alone is more than all that may be held is not kept."""
        entry = _Entry(remembered, remembered.nbytes, self._clock() + self.max_age_s)
        with self._lock:
            self._drop_old()
            self._drop((key, group))
            if entry.nbytes > self.max_bytes:
                return
            while self._nbytes + entry.nbytes > self.max_bytes:
                self._drop(next(iter(self._entries)))
            self._entries[key, group] = entry
            self._nbytes += entry.nbytes

    def get(self, key: str, group: Hashable) -> Remembered | None:
        """The features of one group of views, or None where they are gone."""
        with self._lock:
            self._drop_old()
            entry = self._entries.get((key, group))
            if entry is None:
                return None
            self._entries.move_to_end((key, group))
            return entry.remembered

    def forget(self, key: str) -> None:
        """Let go of all that is held of one picture."""
        with self._lock:
            for one in [one for one in self._entries if one[0] == key]:
                self._drop(one)

    def holds(self, key: str) -> bool:
        """Whether anything is held of one picture."""
        with self._lock:
            self._drop_old()
            return any(one[0] == key for one in self._entries)

    def drop_old(self) -> None:
        """Let go of what is too old; while nobody asks for anything, that happens here alone."""
        with self._lock:
            self._drop_old()

    @property
    def nbytes(self) -> int:
        """How much is held now."""
        with self._lock:
            self._drop_old()
            return self._nbytes

    def _drop_old(self) -> None:
        now = self._clock()
        for one in [one for one, entry in self._entries.items() if entry.forgotten_at <= now]:
            self._drop(one)

    def _drop(self, one: tuple[str, Hashable]) -> None:
        entry = self._entries.pop(one, None)
        if entry is not None:
            self._nbytes -= entry.nbytes
