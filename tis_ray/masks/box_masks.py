"""Predicted masks as detectors give them: probability patches of one size, each stretched over its own box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.masks import quality as qualities
from tis_ray.masks.index import Index
from tis_ray.masks.quality import Quality
from tis_ray.ops import patch_runs, patches, rle
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.patch_runs import Pasting
from tis_ray.ops.rle import Rle
from tis_ray.ops.runs import Runs

# float16 from 0 to 1 are, by their bits, the numbers from 0 to this; all others are above, -0 among them.
_ONE, _MINUS_ZERO = 0x3C00, 0x8000


@dataclass(frozen=True, slots=True, eq=False)
class BoxMasks:
    """N predicted masks: `probabilities` float16 (N, M, M) in 0..1, row then column, over `boxes` float32 (N, 4).

    Boxes are xyxy in the image frame, and need not equal the boxes of the instances they belong to. `present` bool (N,)
    says which instances have a mask; left out, all. The patch of one that has none means nothing. `pasting` is the
    convention by which they become pixels. `quality` float32 (N,) in 0..1 is the IoU that each is predicted to have
    with its object, 1 where none is predicted; None where that goes for all.
    """

    boxes: Boxes
    probabilities: NDArray[np.float16]
    present: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled in below
    pasting: Pasting = "torchvision"
    quality: Quality = None

    def __post_init__(self) -> None:
        shape = self.probabilities.shape
        if self.boxes.dtype != np.float32 or self.probabilities.dtype != np.float16:
            raise InputError(
                f"masks: expected boxes float32 and probabilities float16; "
                f"got {self.boxes.dtype} and {self.probabilities.dtype}"
            )
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise InputError(f"boxes: expected shape (N, 4); got {self.boxes.shape}")
        if len(shape) != 3 or shape[1] != shape[2] or shape[0] != len(self.boxes):
            raise InputError(f"probabilities: expected shape ({len(self.boxes)}, M, M); got {shape}")
        if self.present is None:
            object.__setattr__(self, "present", np.ones(len(self.boxes), dtype=np.bool_))
        if self.present.shape != (len(self.boxes),) or self.present.dtype != np.bool_:
            raise InputError(
                f"present: expected bool ({len(self.boxes)},); got {self.present.dtype} {self.present.shape}"
            )
        qualities.check_array(self.quality, len(self.boxes))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> "BoxMasks":
        return BoxMasks(
            self.boxes[index],
            self.probabilities[index],
            self.present[index],
            self.pasting,
            None if self.quality is None else self.quality[index],
        )

    @property
    def size(self) -> int:
        """M, the side of a patch."""
        return int(self.probabilities.shape[1])

    @staticmethod
    def empty(size: int = 28) -> "BoxMasks":
        """No mask at all, of patch side `size`."""
        return BoxMasks(np.zeros((0, 4), np.float32), np.zeros((0, size, size), np.float16))

    @staticmethod
    def absent(boxes: Boxes, size: int = 28) -> "BoxMasks":
        """For each of `boxes` (N, 4) that it has no mask."""
        n = len(boxes)
        return BoxMasks(boxes, np.zeros((n, size, size), np.float16), np.zeros(n, dtype=np.bool_))

    @staticmethod
    def concatenate(parts: Sequence["BoxMasks"]) -> "BoxMasks":
        """All masks in order; patches of smaller sides are resampled to the largest side among `parts`.

        Raises `InputError` where masks that are there are pasted differently.
        """
        if not parts:
            return BoxMasks.empty()
        size = max((part.size for part in parts if part.present.any()), default=parts[0].size)
        pastings = {part.pasting for part in parts if part.present.any()} or {parts[0].pasting}
        if len(pastings) > 1:
            raise InputError(f"masks.pasting: expected one convention; got {', '.join(sorted(pastings))}")
        return BoxMasks(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.resized(size).probabilities for part in parts]),
            np.concatenate([part.present for part in parts]),
            pastings.pop(),
            qualities.joined([part.quality for part in parts], [len(part) for part in parts]),
        )

    def resized(self, size: int) -> "BoxMasks":
        """The same masks with patches of another side, bilinear between cell centres."""
        if size == self.size:
            return self
        position = np.clip((np.arange(size) + 0.5) * self.size / size - 0.5, 0, self.size - 1)
        low = position.astype(np.int64)
        high = np.minimum(low + 1, self.size - 1)
        share = (position - low).astype(np.float32)
        patches = self.probabilities.astype(np.float32)
        patches = patches[:, low] * (1 - share)[:, None] + patches[:, high] * share[:, None]
        patches = patches[:, :, low] * (1 - share) + patches[:, :, high] * share
        return replace(self, probabilities=patches.astype(np.float16))

    def check_values(self) -> None:
        """Raise `InputError` for boxes that are not finite, or probabilities or qualities that are not in 0..1."""
        broken = ~np.isfinite(self.boxes).all(axis=1) & self.present
        if broken.any():
            i = int(np.argmax(broken))
            raise InputError(f"masks.boxes: expected finite numbers; got {self.boxes[i].tolist()} at position {i}")
        qualities.check_values(self.quality, self.present)
        bits = self.probabilities.view(np.uint16)
        if bits.max(initial=0) <= _ONE:  # the usual case, and a quick look at it
            return
        strange = (bits > _ONE) & (bits != _MINUS_ZERO) & self.present[:, None, None]
        if strange.any():
            i = int(np.argmax(strange.any(axis=(1, 2))))
            value = float(self.probabilities[i][strange[i]][0])
            raise InputError(f"masks.probabilities: expected 0..1; got {value} at position {i}")

    def to_rle(self, height: int, width: int, *, threshold: float = 0.5) -> list[Rle | None]:
        """COCO RLEs in an image of this size, set as `to_runs` sets them; None for an instance without a mask."""
        rles = rle.from_runs(self.to_runs(height, width, threshold=threshold))
        return [one if present else None for one, present in zip(rles, self.present.tolist(), strict=True)]

    def to_runs(self, height: int, width: int, *, threshold: float = 0.5) -> Runs:
        """The masks as pixels in an image of this size; an instance without a mask has none.

        Set where above `threshold` (torchvision), or there too (detectron2); see `patch_runs.paste` and its errors.
        """
        runs = patch_runs.paste(
            self.probabilities[self.present],
            self.boxes[self.present],
            height,
            width,
            threshold=threshold,
            pasting=self.pasting,
        )
        lengths = np.zeros(len(self) + 1, dtype=np.int64)
        lengths[1:][self.present] = np.diff(runs.offsets)
        return replace(runs, offsets=np.cumsum(lengths))

    def filled(self, boxes: Boxes) -> NDArray[np.float64]:  # noqa: ARG002
        """The share of its frame that each mask fills, (N,) in 0..1."""
        return np.asarray((self.probabilities >= 0.5).mean(axis=(1, 2)))

    def averaged(
        self, boxes: Boxes, picks: NDArray[np.int64], shares: NDArray[np.float64], *, of: patches.Of = "probability"
    ) -> "BoxMasks":
        """Over each of `boxes` (N, 4) the mean of the masks that were picked for it; see `patches.average_onto`.

        picks, shares: (N, S) positions here, or -1 for none, and how much each counts. A box is without a mask where
        no pick counts. The quality of a mean is the mean of the qualities.
        """
        shares = np.where(picks >= 0, shares, 0)
        means = patches.average_onto(boxes, self.probabilities, self.boxes, picks, shares, of=of)
        quality = qualities.means(self.quality, picks, shares)
        return BoxMasks(boxes, means, np.asarray(shares.sum(axis=1) > 0), self.pasting, quality)

    def replaced(self, where: NDArray[np.bool_], others: "BoxMasks") -> "BoxMasks":
        """These masks, but those of `others`, as many, where `where` (N,) says so."""
        taken = where & others.present
        sized = self.resized(max(self.size, others.size)) if taken.any() else self
        probabilities = sized.probabilities.copy()
        probabilities[taken] = others[taken].resized(sized.size).probabilities
        return BoxMasks(
            np.where(where[:, None], others.boxes, self.boxes),
            probabilities,
            np.where(where, others.present, self.present),
            self.pasting,
            qualities.replaced(self.quality, where, others.quality),
        )

    def key(self, i: int) -> bytes:
        """What tells mask `i` from another of the same instance: bytes to sort by, absent ones last."""
        if not self.present[i]:
            return b"\x01"
        quality = b"" if self.quality is None else self.quality[i].tobytes()
        return b"\x00" + bytes(self.boxes[i].tobytes() + self.probabilities[i].tobytes() + quality)
