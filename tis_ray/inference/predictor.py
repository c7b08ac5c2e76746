"""One member at work: an image in, the instances of each of its views out, in the image frame; or masks of given boxes.

A detection's mask is predicted on its box as it is answered, in float32 of the image frame, taken back to the network:
whoever brings that box again gets the same mask, to the bit where the boxes that share a forward are the same too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.inference.asked import Asked, NotWantedError, always
from tis_ray.inference.batches import Batch, batches_of, pictures_at_once
from tis_ray.inference.checks import check_boxes, check_image
from tis_ray.inference.feature_memory import FeatureMemory, Remembered
from tis_ray.inference.forwards import Forwards
from tis_ray.inference.given_boxes import filled, own_labels, some_at_a_time
from tis_ray.inference.holders import holders_of
from tis_ray.inference.pictures import Picture, turns
from tis_ray.inference.precision import Precision, dtype_of, round_weights
from tis_ray.inference.tiles import merge_tiles
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.models import checkpoint
from tis_ray.models.compiling import FeatureGraphs, keep_compiled
from tis_ray.models.detector import SIZE_DIVISOR, Detector, Looked
from tis_ray.ops.boxes import Boxes
from tis_ray.views import SizeHW, View

BATCH_PX = 2_000_000  # of a forward on a CPU
GPU_BATCH_PX = 24_000_000
WARM_UP_BOXES = 100


class Predictor:
    """Runs a detector's views. Not for several threads at once: one forward owns the device.

    `index_map` int32 (K,) turns the detector's labels into the ensemble's; by default they are the same. `batch_px`
    bounds the network pixels of one forward, and so its memory, where a grid's tiles or several pictures could share
    one; a tile and its mirror image always do. Pictures do so where `share` says it, by default on a GPU alone: for a
    CPU a forward of two is no faster than two, and rounds differently. `memory` holds the features of pictures that
    will be asked about again.

    `dtype` is what convolutions and linear layers compute in: bfloat16 on a GPU and float32 without, by default.
    Whatever it is, pixels are normalised, boxes decoded and scores compared in float32.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: torch.device | str,
        index_map: NDArray[np.int32] | None = None,
        batch_px: int | None = None,
        share: bool | None = None,
        memory: FeatureMemory | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.detector = detector.to(self.device, memory_format=torch.channels_last).eval()
        on_cpu = self.device.type == "cpu"
        self.batch_px = (BATCH_PX if on_cpu else GPU_BATCH_PX) if batch_px is None else batch_px
        self.share = not on_cpu if share is None else share
        self.memory = FeatureMemory() if memory is None else memory
        self._index_map = index_map
        self._graphs: FeatureGraphs | None = None
        dtype = dtype_of("auto", self.device) if dtype is None else dtype
        self._forwards = Forwards(self.detector, device=self.device, dtype=dtype, index_map=index_map)

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path | str,
        *,
        device: torch.device | str | None = None,
        categories: Categories | None = None,
        memory: FeatureMemory | None = None,
        precision: Precision = "auto",
        batch_px: int | None = None,
    ) -> "Predictor":
        """The member in a checkpoint directory, on the GPU if there is one, answering in `categories`' labels."""
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        detector, _, own = checkpoint.load(Path(folder))
        dtype = dtype_of(precision, device)
        if dtype == torch.bfloat16:
            round_weights(detector)
        index_map = own.index_map(categories or own, key=f"checkpoint {folder}")
        return cls(detector, device=device, index_map=index_map, batch_px=batch_px, memory=memory, dtype=dtype)

    def compile(self, *, bucket_px: int = SIZE_DIVISOR, cache: Path | None = None, backend: str = "inductor") -> None:
        """From now on `warm_up` compiles backbone and neck for each size that it sees, and pads them to `bucket_px`.

        One picture or as many as may share a forward then do so, nothing in between. What is compiled is kept in the
        folder `cache` and taken from there, if one is given: by everything in this process.
        """
        if cache is not None:
            keep_compiled(cache)
        self._graphs = self.detector.graphs = FeatureGraphs(self.detector, bucket_px=bucket_px, backend=backend)

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
        finish = _nothing_to_finish
        for batch, some in self._turns(pictures, views):
            looked = self._look(batch, some)
            finish()  # while the device is at work
            finish = self._find(looked, batch, some, masks)
            del looked  # before the next ones take memory
        finish()
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
        finish = _nothing_to_finish
        for batch, some in self._turns(pictures, views) if self.memory.max_bytes > 0 else ():
            self._look(batch, some)
            finish()
            finish = self._forwards.mark()
        finish()
        return [picture.wanted for picture in pictures]

    def pictures_at_once(self, image_hw: SizeHW, views: Sequence[View]) -> int:
        """How many images of this size share the forwards of `views` at most; 1 where each has its own."""
        if not self.share:
            return 1
        batches = batches_of(views, image_hw, batch_px=self.batch_px)
        return pictures_at_once(batches, image_hw, batch_px=self.batch_px)

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
        own = own_labels(labels, self._index_map)
        holders = {view: holders_of(boxes, view.tiles(image_hw), image_hw) for view in views}
        found = {view: BoxMasks.absent(boxes) for view in views}
        batches = batches_of(views, image_hw, batch_px=self.batch_px)
        for batch in reversed(batches):  # where not all is remembered, it is the last that is
            rows = [np.flatnonzero((own > 0) & (holders[piece.view] == piece.number)) for piece in batch]
            if not any(map(len, rows)):
                continue
            if not picture.still_wanted():
                raise NotWantedError("masks: nobody waits for them any more")
            looked = (self.memory.get(recall, batch) if recall else None) or _remembered(self._look(batch, [picture]))
            for some in some_at_a_time(rows):
                given = [boxes[row] for row in some], [own[row] for row in some]
                parts = self._forwards.segment(looked, [piece.tile for piece in batch], image_hw, *given)
                for piece, row, part in zip(batch, some, parts(), strict=True):
                    found[piece.view] = filled(found[piece.view], row, part)
        return [found[view] for view in views]

    def warm_up(self, sizes_hw: Sequence[SizeHW], views: Sequence[View]) -> None:
        """Run `views` on noise of each size (height, width), so that nothing is done for the first time later on.

        Once alone and once as many pictures as may share a forward. After `compile` that makes their graphs, and raises
        `ConfigError` where the compiler does not work. The largest comes first, so that memory is taken but once.
        """
        with nullcontext() if self._graphs is None else self._graphs.being_made():
            for image_hw in sorted(sizes_hw, key=lambda size: -size[0] * size[1]):
                noise = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)
                for count in sorted({self.pictures_at_once(image_hw, views), 1}, reverse=True):
                    self.predict_together([Asked(noise)] * count, views)
                if self.predicts_masks:
                    self.predict_masks(noise, *_some_boxes(image_hw), views)

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
        most = self.pictures_at_once(image_hw, views)
        return turns(pictures, batches, most=most, all_or_one=self._graphs is not None)

    def _look(self, batch: Batch, pictures: Sequence[Picture]) -> Looked:
        """What backbone and neck make of the pieces of all pictures, one after the other; kept where that is asked."""
        looked = self._forwards.look([one for picture in pictures for one in picture.inputs(batch)])
        whole = _remembered(looked)
        for number, picture in enumerate(pictures):
            if picture.remember is not None:
                own = whole if len(pictures) == 1 else whole.part(number * len(batch), len(batch))
                self.memory.put(picture.remember, batch, own)
        return looked

    def _find(self, looked: Looked, batch: Batch, pictures: Sequence[Picture], masks: bool) -> Callable[[], None]:
        """Let the device find what each piece of each picture shows; calling the answer adds it to what is found."""
        places = [(picture, piece) for picture in pictures for piece in batch]
        tiles = [piece.tile for _, piece in places]
        arrived = self._forwards.detect(looked, tiles, pictures[0].image_hw, masks=masks)

        def finish() -> None:
            for (picture, piece), part in zip(places, arrived(), strict=True):
                picture.found[piece.view].append(part)

        return finish

    def _merged(self, picture: Picture, views: Sequence[View], nothing: Instances) -> list[Instances]:
        """The answer of each view from those of its tiles."""
        image_hw, found = picture.image_hw, picture.found
        return [
            merge_tiles(view.tiles(image_hw), found[view], image_hw=image_hw) if found[view] else nothing
            for view in views
        ]


def _remembered(looked: Looked) -> Remembered:
    return Remembered(looked.features, looked.batch.image_sizes)


def _nothing_to_finish() -> None:
    pass


def _some_boxes(image_hw: SizeHW) -> tuple[Boxes, NDArray[np.int32]]:
    """As many boxes as pictures often have, of the first class, in the middle of the image."""
    height, width = image_hw
    middle = np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], dtype=np.float32)
    return np.tile(middle, (WARM_UP_BOXES, 1)), np.zeros(WARM_UP_BOXES, dtype=np.int32)
