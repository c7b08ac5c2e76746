"""Batches on their way to the device."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tis_ray.data.loading import Batch
from tis_ray.models.targets import Target, to_targets


class Given(NamedTuple):
    """What a detector is given in training: uint8 images (3, h_i, w_i) and their targets, on its device."""

    images: Sequence[Tensor]
    targets: list[Target]


class ToDevice:
    """Brings batches to `device`; to a GPU beside what it still computes, which it need not have finished.

    Copies from memory that is not pinned wait for all that was queued before them, so on a GPU they have a stream of
    their own: masks are packed and copied during the backward pass of the step before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # Memory of this stream is given to its next copies as soon as nobody holds it, be it still read by another
        # stream. When a batch comes, the losses of the one before have been waited for: the one before that is done.
        self._held: deque[Given] = deque(maxlen=2)

    def __call__(self, batch: Batch) -> Given:
        """The batch on the device, ready for the current stream."""
        if self._stream is None:
            return self._copied(batch)
        with torch.cuda.stream(self._stream):
            given = self._copied(batch)
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        self._held.append(given)
        return given

    def _copied(self, batch: Batch) -> Given:
        images = [image.to(self.device, non_blocking=True) for image in batch.images]
        sizes_hw = [(image.shape[-2], image.shape[-1]) for image in images]
        return Given(images, to_targets(batch.annotations, sizes_hw, self.device))
