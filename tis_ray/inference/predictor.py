"""One member at work: an image in, the instances of each of its views out, in the image frame."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tis_ray.data.resize import resize_image
from tis_ray.errors import InputError
from tis_ray.inference.tiles import merge_tiles
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.models import checkpoint
from tis_ray.models.detector import Detector
from tis_ray.models.roi_heads import Detections
from tis_ray.views import View

BATCH_PX = 2_000_000


class Predictor:
    """Runs a detector's views. Not for several threads at once: one forward owns the device.

    `index_map` int32 (K,) turns the detector's labels into the ensemble's; by default they are the same. `batch_px`
    bounds the network pixels of one forward, and so its memory, where a grid's tiles could share one; a tile and its
    mirror image always do.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: torch.device | str,
        index_map: NDArray[np.int32] | None = None,
        batch_px: int = BATCH_PX,
    ) -> None:
        self.device = torch.device(device)
        self.detector = detector.to(self.device, memory_format=torch.channels_last).eval()
        self.index_map = index_map
        self.batch_px = batch_px

    @classmethod
    def from_checkpoint(
        cls, folder: Path | str, *, device: torch.device | str | None = None, categories: Categories | None = None
    ) -> "Predictor":
        """The member in a checkpoint directory, on the GPU if there is one, answering in `categories`' labels."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        detector, _, own = checkpoint.load(Path(folder), device)
        index_map = None if categories is None else own.index_map(categories, key=f"checkpoint {folder}")
        return cls(detector, device=device, index_map=index_map)

    def predict(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[Instances]:
        """Instances of each view, in the order of `views`, in the frame of `image` uint8 RGB (H, W, 3).

        Views that differ in their flip alone are resized once and run as one batch. A grid's tiles are merged into
        one answer. A view whose crop misses the image finds nothing.
        """
        check_image(image)
        image_hw = (image.shape[0], image.shape[1])
        found: dict[View, Instances] = {}
        pixels = _Pixels(image, [tile for view in views for tile in view.tiles(image_hw)], self.device)
        for _, group in groupby(sorted(views, key=_without_flip), key=_without_flip):
            found.update(self._predict_group(pixels, list(group)))
        return [found[view] for view in views]

    def check_device(self) -> None:
        """Raise unless the device still computes: a small sum there, fetched back."""
        total = torch.arange(8, device=self.device).sum().item()
        if total != 28:
            raise RuntimeError(f"{self.device}: expected 0 + ... + 7 = 28; got {total}")

    def _predict_group(self, pixels: "_Pixels", views: list[View]) -> dict[View, Instances]:
        """The answers of views that look at the same tiles, or at one crop, or at the whole image."""
        image_hw = pixels.image_hw
        places = list(zip(*(view.tiles(image_hw) for view in views), strict=True))  # the views of each tile
        if not places:
            return {view: self._nothing() for view in views}
        network_hw = places[0][0].network_hw(image_hw)
        step = max(1, self.batch_px // (len(views) * network_hw[0] * network_hw[1]))
        parts = [part for i in range(0, len(places), step) for part in self._forward(pixels, places[i : i + step])]
        return {
            view: merge_tiles([place[i] for place in places], parts[i :: len(views)], image_hw=image_hw)
            for i, view in enumerate(views)
        }

    @torch.inference_mode()
    def _forward(self, pixels: "_Pixels", places: list[tuple[View, ...]]) -> list[Instances]:
        """What each view of each place finds, place by place, from one batch."""
        batch = []
        for place in places:
            resized = resize_image(pixels.of(place[0]), place[0].network_hw(pixels.image_hw))
            batch += [resized.flip(-1) if view.flip else resized for view in place]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            detections = self.detector(batch)
        views = [view for place in places for view in place]
        return [self._to_instances(one, view, pixels.image_hw) for one, view in zip(detections, views, strict=True)]

    def _nothing(self) -> Instances:
        with_masks = self.detector.predicts_masks
        return Instances.of([], [], [], BoxMasks.empty() if with_masks else None)

    def _to_instances(self, found: Detections, view: View, image_hw: tuple[int, int]) -> Instances:
        boxes = view.boxes_to_image(found.boxes.float().cpu().numpy(), image_hw)
        masks = None
        if found.mask_probs is not None:
            masks = BoxMasks(boxes, view.patches_to_image(found.mask_probs.half().cpu().numpy()))
        instances = Instances.of(boxes, found.scores.float().cpu().numpy(), found.labels.cpu().numpy() - 1, masks)
        return instances if self.index_map is None else instances.relabelled(self.index_map)


class _Pixels:
    """The rectangle of an image around all that `tiles` look at, copied to the device once."""

    def __init__(self, image: NDArray[np.uint8], tiles: Sequence[View], device: torch.device) -> None:
        self.image_hw = (image.shape[0], image.shape[1])
        regions = np.array([tile.region(self.image_hw) for tile in tiles], dtype=np.int64).reshape(-1, 4)
        self._x, self._y = regions[:, :2].min(axis=0, initial=max(self.image_hw)).tolist()
        right, bottom = regions[:, 2:].max(axis=0, initial=0).tolist()
        part = image[self._y : bottom, self._x : right]
        # A copy, since PyTorch takes neither read-only arrays nor negative strides.
        self._pixels = torch.from_numpy(np.array(part, order="C")).to(device).permute(2, 0, 1)

    def of(self, tile: View) -> Tensor:
        """uint8 (3, h, w): what one tile looks at, at the image's own size."""
        x1, y1, x2, y2 = tile.region(self.image_hw)
        return self._pixels[:, y1 - self._y : y2 - self._y, x1 - self._x : x2 - self._x]


def _without_flip(view: View) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """What views of one batch share: the same pixels before mirroring."""
    return view.crop, view.tile, view.scale, view.max_long_edge or 0


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `InputError` unless `image` is a uint8 array (H, W, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image: expected a uint8 RGB array (height, width, 3); got {came}")
    if image.size == 0:
        raise InputError(f"image: expected at least one pixel; got {image.shape}")
