"""Predicted masks that are pixels already, as the results files of any framework hold them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.masks.index import Index
from tis_ray.ops import rle
from tis_ray.ops.boxes import Boxes, area
from tis_ray.ops.rle import Rle
from tis_ray.ops.runs import Runs


@dataclass(frozen=True, slots=True, eq=False)
class RunMasks:
    """N predicted masks as `runs` of pixels of their image; `present` bool (N,) says which instances have one."""

    runs: Runs
    present: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.present is None:
            object.__setattr__(self, "present", np.ones(len(self.runs), dtype=np.bool_))
        if self.present.shape != (len(self.runs),) or self.present.dtype != np.bool_:
            raise InputError(f"present: expected bool ({len(self.runs)},); got {self.present.dtype}")

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Index) -> "RunMasks":
        return RunMasks(self.runs[index], self.present[index])

    @staticmethod
    def absent(height: int, width: int, *, count: int) -> "RunMasks":
        """`count` times that there is no mask, in an image of this size."""
        return RunMasks(Runs.empty(height, width, count=count), np.zeros(count, dtype=np.bool_))

    @staticmethod
    def concatenate(parts: Sequence["RunMasks"]) -> "RunMasks":
        """All masks in order, of at least one part; `InputError` for parts of different image sizes."""
        return RunMasks(
            Runs.concatenate([part.runs for part in parts]), np.concatenate([part.present for part in parts])
        )

    def check_values(self) -> None:
        """Nothing can be wrong with runs that were read."""

    def to_rle(self, height: int, width: int) -> list[Rle | None]:
        """COCO RLEs; None for an instance without a mask. `InputError` for another size than the masks' own."""
        runs = self.to_runs(height, width)
        return [
            _rle(runs.spans[runs.offsets[i] : runs.offsets[i + 1]], height, width) if present else None
            for i, present in enumerate(self.present.tolist())
        ]

    def to_runs(self, height: int, width: int) -> Runs:
        """The masks as pixels; `InputError` for another image size than theirs."""
        if (height, width) != (self.runs.height, self.runs.width):
            own = f"{self.runs.width}x{self.runs.height}"
            raise InputError(f"masks: expected an image of {own} px, theirs; got {width}x{height}")
        return self.runs

    def filled(self, boxes: Boxes) -> NDArray[np.float64]:
        """The share of its box (N, 4) that each mask fills, (N,) in 0..1."""
        spans, offsets = self.runs.spans, self.runs.offsets
        areas = np.diff(np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])[offsets])
        return np.asarray(np.clip(areas / np.maximum(area(boxes), 1), 0, 1), dtype=np.float64)

    def averaged(
        self,
        boxes: Boxes,  # noqa: ARG002
        picks: NDArray[np.int64],
        shares: NDArray[np.float64],
    ) -> "RunMasks":
        """For each of `boxes` (N, 4) the pixels that at least half of the picked masks hold, by their shares.

        picks, shares: (N, S) positions here, or -1 for none, and how much each counts. A box without picks is absent.
        """
        spans, offsets = [np.zeros((0, 2), np.int64)], [0]
        for row, weights in zip(picks, shares, strict=True):
            voted = self._vote(row[row >= 0], weights[row >= 0])
            spans.append(voted)
            offsets.append(offsets[-1] + len(voted))
        runs = Runs(self.runs.height, self.runs.width, np.concatenate(spans), np.array(offsets, dtype=np.int64))
        return RunMasks(runs, np.asarray((picks >= 0).any(axis=1)))

    def replaced(self, where: NDArray[np.bool_], others: "RunMasks") -> "RunMasks":
        """These masks, but those of `others`, as many, where `where` (N,) says so."""
        both = RunMasks.concatenate([self, others])
        return both[np.arange(len(self)) + np.where(where, len(self), 0)]

    def key(self, i: int) -> bytes:
        """What tells mask `i` from another of the same instance: bytes to sort by."""
        return bytes(self.runs.spans[self.runs.offsets[i] : self.runs.offsets[i + 1]].tobytes())

    def _vote(self, chosen: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
        own = [self.runs.spans[self.runs.offsets[i] : self.runs.offsets[i + 1]] for i in chosen]
        edges = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *own]))
        votes = np.zeros(max(len(edges) - 1, 0))
        for spans, weight in zip(own, weights, strict=True):
            if len(spans):
                last = np.searchsorted(spans[:, 0], edges[:-1], side="right") - 1
                votes += weight * ((last >= 0) & (edges[:-1] < spans[np.maximum(last, 0), 1]))
        held = np.concatenate([[False], votes >= 0.5 * weights.sum(), [False]])
        change = np.diff(held.astype(np.int8))
        return np.stack([edges[np.flatnonzero(change == 1)], edges[np.flatnonzero(change == -1)]], axis=1)


def _rle(spans: NDArray[np.int64], height: int, width: int) -> Rle:
    edges = np.concatenate([[0], spans.ravel(), [height * width]])
    counts = np.diff(edges)
    return rle.from_counts(counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts, height, width)
