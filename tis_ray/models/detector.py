"""The detector: Mask R-CNN (He et al. 2017) put together from torchvision's blocks and the recipe's parts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from tis_ray.config import BoxSection, Choice, DetectorSection, MaskSection, RpnSection
from tis_ray.menu import check_options, pick
from tis_ray.models.norm import norm_layer
from tis_ray.models.roi_heads import BoxMaskHeads, Detections, MaskBranch, PyramidRoIAlign
from tis_ray.models.roi_levels import LevelRule, level_rule
from tis_ray.models.rpn import Float32Head, ProposalNetwork
from tis_ray.models.targets import Target

SIZE_DIVISOR = 32  # the coarsest backbone stride


class Detector(nn.Module):
    """Backbone, neck, proposal network and RoI heads in a row.

    Called with uint8 RGB images (3, h, w) of the network frame, of any sizes; they are normalised and padded to
    one size on their own device. In training it takes targets and returns a dict of scalar losses, otherwise a
    list of `Detections` in the network frame.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: nn.Module,
        roi_heads: nn.Module,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1) * 255, persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses (training, needs `targets`) or detections of each image."""
        batch = self._batch(images)
        features = self.neck(self.backbone(batch.tensors))
        proposals, rpn_losses = self.rpn(batch, features, targets)
        detections, roi_losses = self.roi_heads(features, proposals, batch.image_sizes, targets)
        return {**rpn_losses, **roi_losses} if self.training else detections

    def _batch(self, images: Sequence[Tensor]) -> ImageList:
        """One float batch (B, 3, H, W), zero beyond each image, H and W multiples of 32."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (-(-max(edge) // SIZE_DIVISOR) * SIZE_DIVISOR for edge in zip(*sizes, strict=True))
        batch = self.pixel_mean.new_zeros((len(images), 3, height, width))
        for row, image, (h, w) in zip(batch, images, sizes, strict=True):
            row[:, :h, :w] = (image - self.pixel_mean) / self.pixel_std
        return ImageList(batch.contiguous(memory_format=torch.channels_last), sizes)


def build_detector(section: DetectorSection, num_classes: int) -> Detector:
    """Assemble the detector that a recipe's `detector` section names, with random weights but for its backbone's.

    `num_classes` counts the classes without background. Raises `ConfigError` for an unknown part or option.
    """
    backbone = _part("backbones", section.backbone, key="detector.backbone")
    neck = _part("necks", section.neck, backbone.channels, key="detector.neck")
    anchors = _part("anchors", section.anchors, key="detector.anchors")
    levels = level_rule(section.roi_levels, anchors.sizes)
    return Detector(
        backbone,
        neck,
        _build_rpn(section.rpn, anchors, neck.out_channels),
        BoxMaskHeads(
            mask_branch=_build_mask_branch(section.mask, levels, neck.out_channels, num_classes + 1),
            **_box_parts(section.box, levels, neck.out_channels, num_classes + 1),
        ),
        pixel_mean=section.pixel_mean,
        pixel_std=section.pixel_std,
    )


def check_parts(section: DetectorSection) -> None:
    """Raise `ConfigError` for an unknown part or option, without building any weights."""
    _chosen("backbones", section.backbone, key="detector.backbone")
    _chosen("necks", section.neck, key="detector.neck")
    _chosen("box_heads", section.box.head, key="detector.box.head")
    level_rule(section.roi_levels, _part("anchors", section.anchors, key="detector.anchors").sizes)


def _part(folder: str, choice: Choice, *inputs: object, key: str) -> Any:
    build, options = _chosen(folder, choice, key=key)
    return build(*inputs, **options)


def _chosen(folder: str, choice: Choice, *, key: str) -> tuple[Any, dict[str, Any]]:
    build = pick(f"tis_ray.models.{folder}", "build", choice.name, key=key)
    return build, check_options(build, choice.options, key=f"{key}.{choice.name}")


def _build_rpn(section: RpnSection, anchors: AnchorGenerator, channels: int) -> ProposalNetwork:
    return ProposalNetwork(
        anchors,
        Float32Head(channels, anchors.num_anchors_per_location()[0], conv_depth=section.convs),
        fg_iou_thresh=section.positive_iou,
        bg_iou_thresh=section.negative_iou,
        batch_size_per_image=section.samples_per_image,
        positive_fraction=section.positive_fraction,
        pre_nms_top_n={"training": section.pre_nms_top_n_train, "testing": section.pre_nms_top_n_test},
        post_nms_top_n={"training": section.post_nms_top_n_train, "testing": section.post_nms_top_n_test},
        nms_thresh=section.nms_iou,
    )


def _box_parts(section: BoxSection, levels: LevelRule, channels: int, num_logits: int) -> dict[str, Any]:
    head = _part("box_heads", section.head, channels, section.pool_size, key="detector.box.head")
    return {
        "box_roi_pool": PyramidRoIAlign(section.pool_size, levels=levels),
        "box_head": head,
        "box_predictor": FastRCNNPredictor(head.out_channels, num_logits),
        "fg_iou_thresh": section.positive_iou,
        "bg_iou_thresh": section.positive_iou,
        "batch_size_per_image": section.samples_per_image,
        "positive_fraction": section.positive_fraction,
        "bbox_reg_weights": None,
        "score_thresh": section.score_threshold,
        "nms_thresh": section.nms_iou,
        "detections_per_img": section.max_instances,
    }


def _build_mask_branch(
    section: MaskSection | None, levels: LevelRule, channels: int, num_logits: int
) -> MaskBranch | None:
    if section is None:
        return None
    predictor = MaskRCNNPredictor(section.channels[-1], section.channels[-1], num_logits)
    # Small first logits, as Detectron has them: torchvision's initialisation makes them huge for few classes.
    nn.init.normal_(predictor.mask_fcn_logits.weight, std=0.001)
    nn.init.zeros_(predictor.mask_fcn_logits.bias)
    return MaskBranch(
        PyramidRoIAlign(section.pool_size, levels=levels),
        MaskRCNNHeads(channels, section.channels, dilation=1, norm_layer=norm_layer(section.norm)),
        predictor,
    )
