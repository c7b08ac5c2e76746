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
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.models import checkpoint
from tis_ray.models.detector import Detector
from tis_ray.models.roi_heads import Detections
from tis_ray.views import View


class Predictor:
    """Runs a detector's views. Not for several threads at once: one forward owns the device.

    `index_map` int32 (K,) turns the detector's labels into the ensemble's; by default they are the same.
    """

    def __init__(
        self, detector: Detector, *, device: torch.device | str, index_map: NDArray[np.int32] | None = None
    ) -> None:
        self.device = torch.device(device)
        self.detector = detector.to(self.device, memory_format=torch.channels_last).eval()
        self.index_map = index_map

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

        Views that differ in their flip alone are resized once and run as one batch.
        """
        check_image(image)
        whole = torch.tensor(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)
        found: dict[View, Instances] = {}
        for _, group in groupby(sorted(views, key=_without_flip), key=_without_flip):
            found.update(self._predict_group(whole, list(group)))
        return [found[view] for view in views]

    @torch.inference_mode()
    def _predict_group(self, whole: Tensor, views: list[View]) -> dict[View, Instances]:
        image_hw = (whole.shape[1], whole.shape[2])
        x1, y1, x2, y2 = views[0].region(image_hw)
        resized = resize_image(whole[:, y1:y2, x1:x2], views[0].network_hw(image_hw))
        batch = [resized.flip(-1) if view.flip else resized for view in views]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            detections = self.detector(batch)
        return {view: self._to_instances(one, view, image_hw) for view, one in zip(views, detections, strict=True)}

    def _to_instances(self, found: Detections, view: View, image_hw: tuple[int, int]) -> Instances:
        boxes = view.boxes_to_image(found.boxes.float().cpu().numpy(), image_hw)
        masks = None
        if found.mask_probs is not None:
            masks = BoxMasks(boxes, view.patches_to_image(found.mask_probs.half().cpu().numpy()))
        instances = Instances.of(boxes, found.scores.float().cpu().numpy(), found.labels.cpu().numpy() - 1, masks)
        return instances if self.index_map is None else instances.relabelled(self.index_map)


def _without_flip(view: View) -> tuple[tuple[int, ...], int, int]:
    """What views of one batch share: the same pixels before mirroring."""
    return view.crop, view.scale, view.max_long_edge or 0


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `InputError` unless `image` is a uint8 array (H, W, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image: expected a uint8 RGB array (height, width, 3); got {came}")
    if image.size == 0:
        raise InputError(f"image: expected at least one pixel; got {image.shape}")
