"""A two-stage detector at work (Faster R-CNN, Ren et al. 2015; Mask R-CNN, He et al. 2017)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from tis_ray.models.mask_branch import MaskPrediction
from tis_ray.models.pyramid_align import Features
from tis_ray.models.roi_heads import Detections
from tis_ray.models.targets import Target

SIZE_DIVISOR = 32  # the coarsest backbone stride


class Looked(NamedTuple):
    """A batch of images as the detector sees it: padded pictures, and what backbone and neck make of them."""

    batch: ImageList
    features: Features


class Graphs(Protocol):
    """What takes the place of `Detector.features` in testing, for batches padded to multiples of `bucket_px`."""

    bucket_px: int

    def __call__(self, pictures: Tensor) -> Features: ...


class Detector(nn.Module):
    """Backbone, neck, proposal network and RoI heads in a row; beside the heads perhaps a branch that learns stuff.

    Called with uint8 RGB images (3, h, w) of the network frame, of any sizes; they are normalised and padded to
    one size on their own device. In training it takes targets and returns a dict of scalar losses, otherwise a
    list of `Detections` in the network frame.

    In training alone, batches are padded to multiples of `size_bucket_px`, and `compiled` takes the place of `features`
    where it is set; in testing `graphs` say both.
    """

    size_bucket_px = SIZE_DIVISOR
    compiled: Callable[[Tensor], Features] | None = None
    graphs: Graphs | None = None

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: nn.Module,
        roi_heads: nn.Module,
        stuff: nn.Module | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.stuff = stuff
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1) * 255, persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses (training, needs `targets`) or detections of each image."""
        looked = self.look(images)
        if not self.training:
            return self.detect(looked)
        proposals, rpn_losses = self.rpn(*looked, targets)
        _, roi_losses = self.roi_heads(looked.features, proposals, looked.batch.image_sizes, targets)
        losses = {**rpn_losses, **roi_losses}
        return losses if self.stuff is None else losses | self.stuff(looked.features, [one["stuff"] for one in targets])

    def look(self, images: Sequence[Tensor]) -> Looked:
        """Backbone and neck over uint8 RGB images (3, h, w): most of the work of a detection."""
        batch = self._batch(images)
        features = (self.compiled if self.training else self.graphs) or self.features
        return Looked(batch, features(batch.tensors))

    def features(self, pictures: Tensor) -> Features:
        """Backbone and neck over normalised pictures (B, 3, H, W), H and W multiples of 32."""
        levels: Features = self.neck(self.backbone(pictures))
        return levels

    def detect(self, looked: Looked, *, masks: bool = True) -> list[Detections]:
        """Detections of each image, in evaluation; without `masks` no mask head is run."""
        proposals, _ = self.rpn(*looked)
        found, _ = self.roi_heads(looked.features, proposals, looked.batch.image_sizes, masks=masks)
        return found

    def segment(
        self, features: Features, boxes: list[Tensor], labels: list[Tensor], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[MaskPrediction]:
        """Masks of given boxes (MegDetV2, COCO 2019): of each image's, (R_i, 4) xyxy in the network frame.

        labels: int64 (R_i,) from 1; sizes_hw: of the images before padding. Needs `predicts_masks`.
        """
        return self.roi_heads.segment(features, boxes, labels, sizes_hw)

    @property
    def predicts_masks(self) -> bool:
        """Whether detections carry masks."""
        branch = self.roi_heads.mask_branch
        return branch is not None and not branch.only_in_training

    def _batch(self, images: Sequence[Tensor]) -> ImageList:
        """One batch (B, 3, H, W) of the weights' type, zero beyond each image, H and W multiples of 32 or a bucket."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        testing = SIZE_DIVISOR if self.graphs is None else self.graphs.bucket_px
        unit = self.size_bucket_px if self.training else testing
        height, width = (-(-max(edge) // unit) * unit for edge in zip(*sizes, strict=True))
        dtype = next((weights.dtype for weights in self.backbone.parameters()), self.pixel_mean.dtype)
        options = {"dtype": dtype, "device": self.pixel_mean.device, "memory_format": torch.channels_last}
        batch = torch.empty((len(images), 3, height, width), **options).zero_()
        for row, image, (h, w) in zip(batch, images, sizes, strict=True):
            row[:, :h, :w] = (image - self.pixel_mean) / self.pixel_std
        return ImageList(batch, sizes)
