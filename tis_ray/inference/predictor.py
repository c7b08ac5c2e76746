"""One member at work: an image in, the instances of each of its views out, in the image frame; or masks of given boxes.

A detection's mask is predicted on its box as it is answered, in float32 of the image frame, taken back to the network:
whoever brings that box again gets the same mask, to the bit where the boxes that share a forward are the same too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.inference.asked import Asked, NotWantedError, always
from tis_ray.inference.batches import Batch, batches_of, most_pictures
from tis_ray.inference.checks import check_boxes, check_image
from tis_ray.inference.feature_memory import FeatureMemory, Remembered
from tis_ray.inference.holders import holders_of
from tis_ray.inference.pictures import Picture, to_device, turns
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

    def predict(
        self, image: NDArray[np.uint8], views: Sequence[View], *, masks: bool = True, remember: str | None = None
    ) -> list[Instances]:
        """Instances of each view, in the order of `views`, in the frame of `image` uint8 RGB (H, W, 3).

        Views that differ in their flip alone are resized once and run as one batch. A grid's tiles are merged into
        one answer. A view whose crop misses the image finds nothing. Without `masks` no mask head is run. What the
        backbone made of the views is kept in the memory under `remember`, if that is given, for `predict_masks`.
        """
        (found,) = self.predict_together([Asked(image, remember)], views, masks=masks)
        assert found is not None
        return found

    @torch.inference_mode()
    def predict_together(
        self, asked: Sequence[Asked], views: Sequence[View], *, masks: bool = True
    ) -> list[list[Instances] | None]:
        """What `predict` answers for each of several images of one size, which share forwards where they may.

        None is the answer for who was no longer wanted before one of the forwards; that costs nothing more, and what
        was kept of it so far stays until its key is forgotten. Raises `InputError` for images of several sizes.
        """
        masks = masks and self.predicts_masks
        pictures = self._opened(asked, views)
        for batch, some in self._turns(pictures, views):
            self._find(batch, some, masks)
        nothing = Instances.of([], [], [], BoxMasks.empty() if masks else None)
        return [self._merged(picture, views, nothing) if picture.wanted else None for picture in pictures]

    def remember(self, image: NDArray[np.uint8], views: Sequence[View], key: str) -> None:
        """Run backbone and neck alone and keep what they make of the views of an image, for `predict_masks`.

        Where nothing may be kept, nothing is run.
        """
        self.remember_together([Asked(image, key)], views)

    @torch.inference_mode()
    def remember_together(self, asked: Sequence[Asked], views: Sequence[View]) -> list[bool]:
        """`remember` for several images of one size, each under its own key, which share forwards where they may.

        False for who was no longer wanted before one of the forwards. Raises `InputError` for images of several sizes.
        """
        pictures = self._opened(asked, views)
        if self.memory.max_bytes > 0:
            for batch, some in self._turns(pictures, views):
                self._look(batch, some)
        return [picture.wanted for picture in pictures]

    def pictures_at_once(self, image_hw: SizeHW, views: Sequence[View]) -> int:
        """How many images of this size may share a forward in one of `views` at least; 1 where none ever do."""
        batches = batches_of(views, image_hw, batch_px=self.batch_px)
        return max((self._most_pictures(batch, image_hw) for batch in batches), default=1)

    @torch.inference_mode()
    def predict_masks(
        self,
        image: NDArray[np.uint8],
        boxes: Boxes,
        labels: NDArray[np.integer],
        views: Sequence[View],
        *,
        recall: str | None = None,
        wanted: Callable[[], bool] = always,
    ) -> list[BoxMasks]:
        """What each of `views` takes for the objects in given boxes: for each view a mask for each box, in their order.

        boxes: float32 (N, 4) xyxy in the frame of `image` uint8 RGB (H, W, 3); labels: integers (N,), the ensemble's
        recall: the key under which `predict` or `remember` kept the features of these views of the same image, which
            are computed again where they are gone
        wanted: whether anybody still waits for it, asked before each forward

        Absent is the mask of a box without area or beyond the image, one of a class that the member does not know, and
        one that the view does not show wholly: a crop speaks for the boxes within it, a grid by the tile that has most
        room around the box. Raises `InputError` for boxes and labels of another form, and for a member without masks;
        `NotWantedError` as soon as it is not wanted.
        """
        check_image(image)
        check_boxes(boxes, labels)
        if not self.predicts_masks:
            raise InputError("member: expected one that predicts masks; got a detector without a mask branch at test")
        picture = Picture(Asked(image, None, wanted), views, self.device)
        image_hw = picture.image_hw
        own = self._own_labels(labels)
        holders = {view: holders_of(boxes, view.tiles(image_hw), image_hw) for view in views}
        found = {view: BoxMasks.absent(boxes) for view in views}
        for batch in reversed(
            batches_of(views, image_hw, batch_px=self.batch_px)
        ):  # the last one is remembered longest
            rows = [np.flatnonzero((own > 0) & (holders[piece.view] == piece.number)) for piece in batch]
            if not any(map(len, rows)):
                continue
            if not picture.still_wanted():
                raise NotWantedError("masks: nobody waits for them any more")
            looked = (self.memory.get(recall, batch) if recall else None) or self._look(batch, [picture])[1]
            for some in _some_at_a_time(rows):
                given = [boxes[row] for row in some], [own[row] for row in some]
                parts = self._segment(looked, batch, *given, image_hw)
                for piece, row, part in zip(batch, some, parts, strict=True):
                    found[piece.view] = _filled(found[piece.view], row, part)
        return [found[view] for view in views]

    def warm_up(self, sizes_hw: Sequence[SizeHW], views: Sequence[View]) -> None:
        """Run `views` on noise of each size (height, width), so that nothing is done for the first time later on.

        As many pictures as may share a forward do so.
        """
        for height, width in sorted(sizes_hw, key=lambda size: -size[0] * size[1]):
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            self.predict(noise, views)
            together = self.pictures_at_once((height, width), views)
            if together > 1:
                self.predict_together([Asked(noise)] * together, views)

    def check_device(self) -> None:
        """Raise unless the device still computes: a small sum there, fetched back."""
        total = torch.arange(8, device=self.device).sum().item()
        if total != 28:
            raise RuntimeError(f"{self.device}: expected 0 + ... + 7 = 28; got {total}")

    def _opened(self, asked: Sequence[Asked], views: Sequence[View]) -> list[Picture]:
        """What was asked, checked: at least a pixel each, and one size."""
        for one in asked:
            check_image(one.image)
        sizes = sorted({(one.image.shape[1], one.image.shape[0]) for one in asked})
        if len(sizes) > 1:
            came = ", ".join(f"{width}x{height}" for width, height in sizes)
            raise InputError(f"asked: expected images of one size; got {came}")
        return [Picture(one, views, self.device) for one in asked]

    def _turns(self, pictures: Sequence[Picture], views: Sequence[View]) -> Iterator[tuple[Batch, list[Picture]]]:
        if not pictures:
            return iter(())
        image_hw = pictures[0].image_hw
        batches = batches_of(views, image_hw, batch_px=self.batch_px)
        return turns(pictures, batches, most=lambda batch: self._most_pictures(batch, image_hw), all_or_one=False)

    def _most_pictures(self, batch: Batch, image_hw: SizeHW) -> int:
        """On a CPU a forward of two is no faster than two, and would round differently."""
        return 1 if self.device.type == "cpu" else most_pictures(batch, image_hw, batch_px=self.batch_px)

    def _look(self, batch: Batch, pictures: Sequence[Picture]) -> tuple[Looked, Remembered]:
        """What backbone and neck make of the pieces of all pictures, one after the other; kept where that is asked."""
        inputs = [one for picture in pictures for one in picture.inputs(batch)]
        with self._autocast():
            looked = self.detector.look(inputs)
        whole = Remembered(looked.features, looked.batch.image_sizes)
        for number, picture in enumerate(pictures):
            if picture.remember is not None:
                own = whole if len(pictures) == 1 else whole.part(number * len(batch), len(batch))
                self.memory.put(picture.remember, batch, own)
        return looked, whole

    def _find(self, batch: Batch, pictures: Sequence[Picture], masks: bool) -> None:
        """Add what each piece of each picture shows, in the image frame, to what its view has found."""
        looked = self._look(batch, pictures)
        parts = self._detect(looked, batch * len(pictures), pictures[0].image_hw, masks)
        places = [(picture, piece) for picture in pictures for piece in batch]
        for (picture, piece), part in zip(places, parts, strict=True):
            picture.found[piece.view].append(part)

    def _merged(self, picture: Picture, views: Sequence[View], nothing: Instances) -> list[Instances]:
        """The answer of each view from those of its tiles."""
        image_hw, found = picture.image_hw, picture.found
        return [
            merge_tiles(view.tiles(image_hw), found[view], image_hw=image_hw) if found[view] else nothing
            for view in views
        ]

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
            to_device(piece.tile.boxes_to_network(box, image_hw), self.device)
            for piece, box in zip(batch, boxes, strict=True)
        ]
        wanted = [to_device(one, self.device) for one in labels]
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
