"""A detector on its device: what goes in are pictures and boxes of the host, what comes out are instances and masks.

Nothing here waits for the device but NMS, of which each picture needs two, and whoever calls what comes back: so the
device already works on the next pictures while the host finishes the last.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.inference.feature_memory import Remembered
from tis_ray.inference.frames import Frames
from tis_ray.inference.staging import to_device, to_host
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.models.detector import Detector, Looked
from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View


class Forwards:
    """Runs a detector in `dtype`, float32 or bfloat16, on `device`; `index_map` as `Predictor` has it."""

    def __init__(
        self, detector: Detector, *, device: torch.device, dtype: torch.dtype, index_map: NDArray[np.int32] | None
    ) -> None:
        self.detector = detector
        self.device = device
        self.dtype = dtype
        self.index_map = index_map

    def look(self, inputs: Sequence[Tensor]) -> Looked:
        """Backbone and neck over uint8 network inputs (3, h, w) on the device."""
        with self._autocast():
            return self.detector.look(inputs)

    def detect(
        self, looked: Looked, tiles: Sequence[View], image_hw: SizeHW, *, masks: bool
    ) -> Callable[[], list[Instances]]:
        """What each network input shows, in the image frame; `tiles` are the views without a grid that it shows.

        Each mask is predicted on its box as it is answered.
        """
        with self._autocast():
            found = self.detector.detect(looked, masks=False)
        counts = [len(one.scores) for one in found]
        labels = torch.cat([one.labels for one in found])
        frames = Frames(tiles, image_hw, counts, device=self.device)
        boxes = frames.to_image(torch.cat([one.boxes.float() for one in found]))
        values = [boxes, torch.cat([one.scores.float() for one in found]), labels.int()]
        if masks:
            own = frames.to_network(boxes).split(counts), labels.split(counts)
            values += self._segment(Remembered(looked.features, looked.batch.image_sizes), *own)
        arrived = to_host(values)

        def finish() -> list[Instances]:
            ends = np.cumsum(counts)[:-1]
            box, score, label, *mask = (np.split(one, ends) for one in arrived())
            segmented = _box_masks(tiles, box, mask) if masks else [None] * len(tiles)
            instances = [
                Instances.of(*one) for one in zip(box, score, [one - 1 for one in label], segmented, strict=True)
            ]
            return instances if self.index_map is None else [one.relabelled(self.index_map) for one in instances]

        return finish

    def segment(
        self,
        remembered: Remembered,
        tiles: Sequence[View],
        image_hw: SizeHW,
        boxes: Sequence[Boxes],
        labels: Sequence[NDArray[np.int64]],
    ) -> Callable[[], list[BoxMasks]]:
        """Masks over the boxes (R_i, 4) of each network input, both in the image frame; labels are the detector's."""
        counts = [len(one) for one in boxes]
        moved = [tile.boxes_to_network(one, image_hw) for tile, one in zip(tiles, boxes, strict=True)]
        sent = (to_device(np.concatenate(one), self.device).split(counts) for one in (moved, labels))
        arrived = to_host(self._segment(remembered, *sent))
        ends = np.cumsum(counts)[:-1]
        return lambda: _box_masks(tiles, boxes, [np.split(one, ends) for one in arrived()])

    def mark(self) -> Callable[[], None]:
        """Calling the answer waits for all that the device has been given so far."""
        if self.device.type != "cuda":
            return lambda: None
        return torch.cuda.current_stream(self.device).record_event().synchronize

    def _segment(self, looked: Remembered, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
        """Patches float16 (N, M, M) of all inputs' boxes; before them their quality float32 (N,), where it is said."""
        with self._autocast():
            said = self.detector.segment(looked.features, list(boxes), list(labels), looked.sizes_hw)
        patches = torch.cat([one.probs for one in said]).half()
        quality = [one.quality for one in said if one.quality is not None]
        return [torch.cat(quality).float(), patches] if quality else [patches]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def _box_masks(
    tiles: Sequence[View], boxes: Sequence[Boxes], said: Sequence[Sequence[NDArray[np.floating]]]
) -> list[BoxMasks]:
    """Of each input what `Forwards._segment` says: patches last, before them perhaps their quality."""
    *quality, patches = said
    qualities = quality[0] if quality else [None] * len(tiles)
    return [
        BoxMasks(box, tile.patches_to_image(patch), quality=one)
        for tile, box, patch, one in zip(tiles, boxes, patches, qualities, strict=True)
    ]
