"""Predicted masks that are pixels already, as the results files of any framework hold them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.masks import quality as qualities
from tis_ray.masks.index import Index
from tis_ray.masks.quality import Quality
from tis_ray.ops import rle
from tis_ray.ops.boxes import Boxes, area
from tis_ray.ops.patches import Of
from tis_ray.ops.rle import Rle
from tis_ray.ops.run_algebra import areas
from tis_ray.ops.run_voting import weighted_vote
from tis_ray.ops.runs import Runs


@dataclass(frozen=True, slots=True, eq=False)
class RunMasks:
    """N predicted masks as `runs` of pixels of their image.

    `present` bool (N,) says which instances have a mask; left out, all. Runs of one that has none mean nothing.
    `quality` float32 (N,) in 0..1 is the IoU that each is predicted to have with its object, 1 where none is predicted;
    None where that goes for all.
    """

    runs: Runs
    present: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled in below
    quality: Quality = None

    def __post_init__(self) -> None:
        if self.present is None:
            object.__setattr__(self, "present", np.ones(len(self.runs), dtype=np.bool_))
        if self.present.shape != (len(self.runs),) or self.present.dtype != np.bool_:
            raise InputError(
                f"present: expected bool ({len(self.runs)},); got {self.present.dtype} {self.present.shape}"
            )
        qualities.check_array(self.quality, len(self.runs))

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Index) -> "RunMasks":
        quality = None if self.quality is None else self.quality[index]
        return RunMasks(self.runs[index], self.present[index], quality)

    @staticmethod
    def absent(height: int, width: int, *, count: int) -> "RunMasks":
        """`count` times that there is no mask, in an image of this size."""
        return RunMasks(Runs.empty(height, width, count=count), np.zeros(count, dtype=np.bool_))

    @staticmethod
    def concatenate(parts: Sequence["RunMasks"]) -> "RunMasks":
        """All masks in order, of at least one part; `InputError` for parts of different image sizes."""
        return RunMasks(
            Runs.concatenate([part.runs for part in parts]),
            np.concatenate([part.present for part in parts]),
            qualities.joined([part.quality for part in parts], [len(part) for part in parts]),
        )

    def check_values(self) -> None:
        """Raise `InputError` for runs that do not rise, touch or leave the image, and for qualities beyond 0..1."""
        qualities.check_values(self.quality, self.present)
        try:
            self.runs.check_values()
        except InputError as error:
            raise InputError(f"masks.{error}") from None

    def check_size(self, height: int, width: int) -> None:
        """Raise `InputError` for another image size than the masks' own."""
        if (height, width) != (self.runs.height, self.runs.width):
            own = f"{self.runs.width}x{self.runs.height}"
            raise InputError(f"masks: expected an image of {own} px, theirs; got {width}x{height}")

    def to_rle(self, height: int, width: int) -> list[Rle | None]:
        """COCO RLEs; None for an instance without a mask. `InputError` for another size than the masks' own."""
        rles = rle.from_runs(self.to_runs(height, width))
        return [one if present else None for one, present in zip(rles, self.present.tolist(), strict=True)]

    def to_runs(self, height: int, width: int) -> Runs:
        """The masks as pixels, none where there is no mask; `InputError` for another image size than theirs."""
        self.check_size(height, width)
        return self.runs if self.present.all() else self.runs.kept(self.present)

    def filled(self, boxes: Boxes) -> NDArray[np.float64]:
        """The share of its box (N, 4) that each mask fills, (N,) in 0..1; of a box below one pixel, of one pixel."""
        return np.asarray(np.clip(areas(self.runs) / np.maximum(area(boxes), 1), 0, 1), dtype=np.float64)

    def averaged(
        self,
        boxes: Boxes,  # noqa: ARG002
        picks: NDArray[np.int64],
        shares: NDArray[np.float64],
        *,
        of: Of = "probability",  # noqa: ARG002
    ) -> "RunMasks":
        """For each of `boxes` (N, 4) the pixels that picked masks with at least half of all shares hold.

        picks, shares: (N, S) positions here, or -1 for none, and how much each counts; see `run_voting.weighted_vote`.
        `of` changes nothing: the mean of the logits of pixels is their majority, too. A box is without a mask where no
        pick counts. What the voters do not agree on is an empty mask. The quality is the mean of the picks' qualities.
        """
        counts = np.where(picks >= 0, shares, 0).sum(axis=1) > 0
        quality = qualities.means(self.quality, picks, shares)
        return RunMasks(weighted_vote(self.runs, picks, shares), np.asarray(counts), quality)

    def replaced(self, where: NDArray[np.bool_], others: "RunMasks") -> "RunMasks":
        """These masks, but those of `others`, as many, where `where` (N,) says so."""
        both = RunMasks.concatenate([self, others])
        return both[np.arange(len(self)) + np.where(where, len(self), 0)]

    def key(self, i: int) -> bytes:
        """What tells mask `i` from another of the same instance: bytes to sort by, absent ones last."""
        if not self.present[i]:
            return b"\x01"
        quality = b"" if self.quality is None else self.quality[i].tobytes()
        spans: bytes = self.runs.spans[self.runs.offsets[i] : self.runs.offsets[i + 1]].tobytes()
        return b"\x00" + spans + quality
