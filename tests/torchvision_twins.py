"""torchvision's Mask R-CNN with random weights that find something, and its twin among our detectors.

Both look at few anchors and regions: a ResNet-50 then runs in a second, and the rounding of sums, which differs with
the layout in memory, tips no order and no suppression.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from tests.tiny import classes
from tis_ray.config import DetectorSection, parse
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.torchvision_import import DETECTORS
from tis_ray.models.torchvision_names import from_torchvision

FEW = {
    "rpn_pre_nms_top_n_train": 40,
    "rpn_pre_nms_top_n_test": 40,
    "box_detections_per_img": 20,
    # All anchors and regions are examples, so that chance has no say.
    "rpn_batch_size_per_image": 1_000_000,
    "rpn_positive_fraction": 1.0,
    "box_batch_size_per_image": 1_000_000,
    "box_positive_fraction": 1.0,
}
OUR_FEW = [
    "rpn.pre_nms_top_n_train=40",
    "rpn.pre_nms_top_n_test=40",
    "box.max_instances=20",
    "rpn.samples_per_image=1_000_000",
    "rpn.positive_fraction=1.0",
    "box.samples_per_image=1_000_000",
    "box.positive_fraction=1.0",
]


def random_image(height: int, width: int) -> Tensor:
    """uint8 (3, height, width): coarse noise, so that regions differ from each other."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.randint(0, 256, (3, -(-height // 16), -(-width // 16)), generator=generator)
    return coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width].to(torch.uint8)


def torchvision_model(name: str, num_classes: int, **settings: Any) -> MaskRCNN:
    """torchvision's `name` as it is built for its COCO weights; `num_classes` counts background."""
    torch.manual_seed(0)
    if name == "maskrcnn_resnet50_fpn_v2":
        return _livened(
            maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=num_classes, **settings)
        )
    measured = _livened(_first_generation(nn.BatchNorm2d, num_classes, **settings))
    frozen = _first_generation(FrozenBatchNorm2d, num_classes, **settings)
    frozen.load_state_dict(measured.state_dict())
    overwrite_eps(frozen, 0.0)
    return frozen


def twin(name: str, model: MaskRCNN, num_classes: int) -> Detector:
    """Our detector of `name` with the weights of `model`, looking at few anchors and regions."""
    detector = build_detector(parse(DetectorSection, DETECTORS[name], OUR_FEW, source=name), classes(num_classes - 1))
    detector.load_state_dict(from_torchvision(model.state_dict()))
    return detector


def _first_generation(norm: type[nn.Module], num_classes: int, **settings: Any) -> MaskRCNN:
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=3)
    return MaskRCNN(backbone, num_classes=num_classes, **settings)


@torch.no_grad()
def _livened(model: MaskRCNN) -> MaskRCNN:
    """Statistics measured on pictures, variances so small that an eps shows, classes and masks that differ by region.

    Residual branches are weak, as training makes them: fresh ones multiply rounding errors by a hundred.
    """
    for module in model.backbone.body.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.mul_(0.1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = norms[0].momentum
    for norm in norms:
        norm.momentum = 1.0
    boxes = torch.tensor([[5.0, 5, 40, 30], [20, 20, 60, 60]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 1]), "masks": torch.ones((2, 64, 64), dtype=torch.uint8)}
    kept, model.transform._skip_resize = model.transform._skip_resize, True
    model.train()([random_image(64, 64) / 255], [target])
    model.transform._skip_resize = kept
    for norm in norms:
        norm.momentum = momentum
    for norm in model.backbone.body.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.mul_(1e-3)
            norm.weight.mul_(1e-3**0.5)
    model.roi_heads.box_predictor.cls_score.weight.mul_(12)
    model.roi_heads.box_predictor.bbox_pred.weight.mul_(0.3)
    model.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(0.2)
    return model
