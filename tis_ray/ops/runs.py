"""Masks of one image as runs of set pixels: what set algebra on masks works on, without a pixel being touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError

Spans = NDArray[np.int64]  # (R, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """N masks of one image of `height` x `width` pixels.

    spans:   int64 (R, 2) [start, stop) of the runs of all masks, one mask after the other. A pixel's number is
             x * height + y, column by column as COCO counts; a mask's spans rise and do not touch.
    offsets: int64 (N + 1,) the spans of mask i are `spans[offsets[i]:offsets[i + 1]]`; none where it is empty
    """

    height: int
    width: int
    spans: Spans
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.spans.dtype != np.int64 or self.spans.ndim != 2 or self.spans.shape[1] != 2:
            raise InputError(f"spans: expected int64 (R, 2); got {self.spans.dtype} {self.spans.shape}")
        if self.offsets.dtype != np.int64 or len(self.offsets) == 0 or self.offsets[-1] != len(self.spans):
            raise InputError(f"offsets: expected int64 (N + 1,) that end at {len(self.spans)}; got {self.offsets}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: NDArray[Any] | slice | Sequence[int]) -> "Runs":
        chosen = np.arange(len(self))[index]
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[chosen])]).astype(np.int64)
        return Runs(self.height, self.width, _take(self.spans, self.offsets, chosen, offsets), offsets)

    def kept(self, where: NDArray[np.bool_]) -> "Runs":
        """As many masks, without pixels but `where` (N,) says so."""
        lengths = np.where(where, np.diff(self.offsets), 0)
        spans = self.spans[np.repeat(where, np.diff(self.offsets))]
        return Runs(self.height, self.width, spans, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def check_values(self) -> None:
        """Raise `InputError` for spans that do not rise, that touch, or that leave the image."""
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise InputError(f"offsets: expected numbers that rise from 0; got {self.offsets}")
        floor = np.concatenate([[-1], self.spans[:-1, 1]])[: len(self.spans)]
        floor[self.offsets[:-1][np.diff(self.offsets) > 0]] = -1  # a mask's first span may start anywhere
        wrong = (self.spans[:, 0] <= floor) | (self.spans[:, 1] <= self.spans[:, 0])
        wrong |= self.spans[:, 1] > self.height * self.width
        if wrong.any():
            k = int(np.argmax(wrong))
            position = int(np.searchsorted(self.offsets, k, side="right")) - 1
            raise InputError(
                f"spans: expected [start, stop) that rise, do not touch and lie within 0..{self.height * self.width}; "
                f"got {self.spans[k].tolist()} at position {position}"
            )

    @staticmethod
    def empty(height: int, width: int, *, count: int = 0) -> "Runs":
        """`count` masks without pixels."""
        return Runs(height, width, np.zeros((0, 2), np.int64), np.zeros(count + 1, np.int64))

    @staticmethod
    def concatenate(parts: Sequence["Runs"]) -> "Runs":
        """All masks in order, of at least one part; `InputError` for parts of different image sizes."""
        sizes = {(part.height, part.width) for part in parts}
        if len(sizes) != 1:
            raise InputError(f"parts: expected masks of one image size; got {sorted(sizes)}")
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Runs(parts[0].height, parts[0].width, np.concatenate([part.spans for part in parts]), offsets)


@njit(cache=True)
def _take(spans, offsets, chosen, new_offsets):  # type: ignore[no-untyped-def]
    taken = np.empty((new_offsets[-1], 2), dtype=np.int64)
    for i in range(len(chosen)):
        taken[new_offsets[i] : new_offsets[i + 1]] = spans[offsets[chosen[i]] : offsets[chosen[i] + 1]]
    return taken
