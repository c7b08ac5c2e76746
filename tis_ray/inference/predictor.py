"""One member at work: an image in, the instances of each of its views out, in the image frame; or masks of given boxes.

A detection's mask is predicted on its box as it is answered, in float32 of the image frame, taken back to the network:
whoever brings that box again gets the same mask, to the bit where the boxes that share a forward are the same too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.inference.batches import Batch, Pixels, batches_of
from tis_ray.inference.checks import check_boxes, check_image
from tis_ray.inference.feature_memory import FeatureMemory, Remembered
from tis_ray.inference.holders import holders_of
from tis_ray.inference.tiles import merge_tiles
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.models import checkpoint
from tis_ray.models.detector import Detector, Looked
from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View

BATCH_PX = 2_000_000
BOXES_AT_ONCE = 1000  # of a view, whose masks are predicted together: their features take memory


class Predictor:
    """Runs a detector's views. Not for several threads at once: one forward owns the device.

    `index_map` int32 (K,) turns the detector's labels into the ensemble's; by default they are the same. `batch_px`
    bounds the network pixels of one forward, and so its memory, where a grid's tiles could share one; a tile and its
    mirror image always do. `memory` holds the features of pictures that will be asked about again.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: torch.device | str,
        index_map: NDArray[np.int32] | None = None,
        batch_px: int = BATCH_PX,
        memory: FeatureMemory | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.detector = detector.to(self.device, memory_format=torch.channels_last).eval()
        self.index_map = index_map
        self.batch_px = batch_px
        self.memory = FeatureMemory() if memory is None else memory

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path | str,
        *,
        device: torch.device | str | None = None,
        categories: Categories | None = None,
        memory: FeatureMemory | None = None,
    ) -> "Predictor":
        """The member in a checkpoint directory, on the GPU if there is one, answering in `categories`' labels."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        detector, _, own = checkpoint.load(Path(folder), device)
        index_map = own.index_map(categories or own, key=f"checkpoint {folder}")
        return cls(detector, device=device, index_map=index_map, memory=memory)

    @property
    def predicts_masks(self) -> bool:
        """Whether instances carry masks, and `predict_masks` has an answer."""
        return self.detector.predicts_masks

    @torch.inference_mode()
    def predict(
        self, image: NDArray[np.uint8], views: Sequence[View], *, masks: bool = True, remember: str | None = None
    ) -> list[Instances]:
        """Instances of each view, in the order of `views`, in the frame of `image` uint8 RGB (H, W, 3).

        Views that differ in their flip alone are resized once and run as one batch. A grid's tiles are merged into
        one answer. A view whose crop misses the image finds nothing. Without `masks` no mask head is run. What the
        backbone made of the views is kept in the memory under `remember`, if that is given, for `predict_masks`.
        """
        check_image(image)
        masks = masks and self.predicts_masks
        pixels = Pixels(image, views, self.device)
        found: dict[View, list[Instances]] = {view: [] for view in views}
        for batch in batches_of(views, pixels.image_hw, batch_px=self.batch_px):
            looked = self._look(pixels, batch, remember)
            for piece, part in zip(batch, self._detect(looked, batch, pixels.image_hw, masks), strict=True):
                found[piece.view].append(part)
        nothing = Instances.of([], [], [], BoxMasks.empty() if masks else None)
        return [
            merge_tiles(view.tiles(pixels.image_hw), found[view], image_hw=pixels.image_hw) if found[view] else nothing
            for view in views
        ]

    @torch.inference_mode()
    def remember(self, image: NDArray[np.uint8], views: Sequence[View], key: str) -> None:
        """Run backbone and neck alone and keep what they make of the views of an image, for `predict_masks`.

        Where nothing may be kept, nothing is run.
        """
        check_image(image)
        if self.memory.max_bytes == 0:
            return
        pixels = Pixels(image, views, self.device)
        for batch in batches_of(views, pixels.image_hw, batch_px=self.batch_px):
            self._look(pixels, batch, key)

    @torch.inference_mode()
    def predict_masks(
        self,
        image: NDArray[np.uint8],
        boxes: Boxes,
        labels: NDArray[np.integer],
        views: Sequence[View],
        *,
        recall: str | None = None,
    ) -> list[BoxMasks]:
        """What each of `views` takes for the objects in given boxes: for each view a mask for each box, in their order.

        boxes: float32 (N, 4) xyxy in the frame of `image` uint8 RGB (H, W, 3); labels: integers (N,), the ensemble's
        recall: the key under which `predict` or `remember` kept the features of these views of the same image, which
            are computed again where they are gone

        Absent is the mask of a box without area or beyond the image, one of a class that the member does not know, and
        one that the view does not show wholly: a crop speaks for the boxes within it, a grid by the tile that has most
        room around the box. Raises `InputError` for boxes and labels of another form, and for a member without masks.
        """
        check_image(image)
        check_boxes(boxes, labels)
        if not self.predicts_masks:
            raise InputError("member: expected one that predicts masks; got a detector without a mask branch at test")
        pixels = Pixels(image, views, self.device)
        own = self._own_labels(labels)
        holders = {view: holders_of(boxes, view.tiles(pixels.image_hw), pixels.image_hw) for view in views}
        found = {view: BoxMasks.absent(boxes) for view in views}
        batches = list(batches_of(views, pixels.image_hw, batch_px=self.batch_px))
        for batch in reversed(batches):  # where not all is remembered, it is the last that is
            rows = [np.flatnonzero((own > 0) & (holders[piece.view] == piece.number)) for piece in batch]
            if not any(map(len, rows)):
                continue
            looked = (self.memory.get(recall, batch) if recall else None) or self._look(pixels, batch, None)[1]
            for some in _some_at_a_time(rows):
                given = [boxes[row] for row in some], [own[row] for row in some]
                parts = self._segment(looked, batch, *given, pixels.image_hw)
                for piece, row, part in zip(batch, some, parts, strict=True):
                    found[piece.view] = _filled(found[piece.view], row, part)
        return [found[view] for view in views]

    def check_device(self) -> None:
        """Raise unless the device still computes: a small sum there, fetched back."""
        total = torch.arange(8, device=self.device).sum().item()
        if total != 28:
            raise RuntimeError(f"{self.device}: expected 0 + ... + 7 = 28; got {total}")

    def _look(self, pixels: Pixels, batch: Batch, key: str | None) -> tuple[Looked, Remembered]:
        inputs = pixels.inputs(batch)
        with self._autocast():
            looked = self.detector.look(inputs)
        remembered = Remembered(looked.features, looked.batch.image_sizes)
        if key is not None:
            self.memory.put(key, batch, remembered)
        return looked, remembered

    def _detect(
        self, looked: tuple[Looked, Remembered], batch: Batch, image_hw: SizeHW, masks: bool
    ) -> list[Instances]:
        """What each piece of a batch shows, in the image frame."""
        with self._autocast():
            detections = self.detector.detect(looked[0], masks=False)
        boxes = [
            piece.tile.boxes_to_image(one.boxes.float().cpu().numpy(), image_hw)
            for piece, one in zip(batch, detections, strict=True)
        ]
        labels = [one.labels.cpu().numpy() for one in detections]
        segmented = self._segment(looked[1], batch, boxes, labels, image_hw) if masks else [None] * len(batch)
        found = [
            Instances.of(box, one.scores.float().cpu().numpy(), label - 1, mask)
            for box, label, one, mask in zip(boxes, labels, detections, segmented, strict=True)
        ]
        return found if self.index_map is None else [one.relabelled(self.index_map) for one in found]

    def _segment(
        self,
        looked: Remembered,
        batch: Batch,
        boxes: Sequence[Boxes],
        labels: Sequence[NDArray[np.int64]],
        image_hw: SizeHW,
    ) -> list[BoxMasks]:
        """Masks over the boxes (R, 4) of each piece, both in the image frame; labels are the detector's."""
        moved = [
            torch.from_numpy(piece.tile.boxes_to_network(box, image_hw)).to(self.device)
            for piece, box in zip(batch, boxes, strict=True)
        ]
        wanted = [torch.from_numpy(one).to(self.device) for one in labels]
        with self._autocast():
            said = self.detector.segment(looked.features, moved, wanted, looked.sizes_hw)
        return [
            BoxMasks(
                box,
                piece.tile.patches_to_image(one.probs.half().cpu().numpy()),
                quality=None if one.quality is None else one.quality.float().cpu().numpy(),
            )
            for piece, box, one in zip(batch, boxes, said, strict=True)
        ]

    def _own_labels(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """The detector's labels, from 1, for the ensemble's; 0 for a class that it does not know."""
        if self.index_map is None:
            return np.maximum(labels.astype(np.int64) + 1, 0)
        own = np.zeros(self.index_map.max(initial=0) + 1, dtype=np.int64)
        taken = self.index_map >= 0
        own[self.index_map[taken]] = np.flatnonzero(taken) + 1
        known = (labels >= 0) & (labels < len(own))
        return np.where(known, own[np.where(known, labels, 0)], 0)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda")


def _some_at_a_time(rows: Sequence[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """The same rows of each piece of a batch, at most `BOXES_AT_ONCE` of each."""
    for start in range(0, max(map(len, rows)), BOXES_AT_ONCE):
        yield [row[start : start + BOXES_AT_ONCE] for row in rows]


def _filled(masks: BoxMasks, rows: NDArray[np.int64], part: BoxMasks) -> BoxMasks:
    """The masks with `part` at the rows (R,) that had none yet."""
    if len(rows) == 0:
        return masks
    places = np.zeros(len(masks), dtype=np.int64)
    places[rows] = np.arange(len(rows))
    absent = ~np.isin(np.arange(len(masks)), rows)
    return replace(part[places], boxes=masks.boxes).replaced(absent, masks)
