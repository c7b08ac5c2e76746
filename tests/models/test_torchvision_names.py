"""Weights keep their values under other names, there and back, whatever torchvision wrote them."""

import re

import pytest
import torch
from torch import Tensor
from torchvision.models import detection

from tests.tiny import CATEGORIES
from tis_ray.config import DetectorSection, parse
from tis_ray.models.assembly import build_detector
from tis_ray.models.torchvision_import import DETECTORS
from tis_ray.models.torchvision_names import from_torchvision, to_torchvision


def torchvision_state(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4).state_dict()


def as_before_0_13(key: str) -> str:
    """The name that torchvision's first COCO weights have in their file."""
    key = re.sub(r"(rpn\.head\.conv)\.0\.0\.", r"\1.", key)
    key = re.sub(r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1.", key)
    return re.sub(r"(mask_head)\.(\d)\.0\.", lambda m: f"{m[1]}.mask_fcn{int(m[2]) + 1}.", key)


@pytest.mark.parametrize("name", DETECTORS)
def test_names_are_those_of_our_detector_and_come_back(name: str) -> None:
    state = torchvision_state(name)
    with torch.device("meta"):
        ours = build_detector(parse(DetectorSection, DETECTORS[name], source=name), CATEGORIES).state_dict()
    converted = from_torchvision(state)
    counters = {key for key in converted if key.endswith("num_batches_tracked")}
    assert {key: value.shape for key, value in converted.items() if key not in counters - ours.keys()} == {
        key: value.shape for key, value in ours.items()
    }
    back = to_torchvision(converted)
    assert list(back) == list(state)
    assert all(back[key] is state[key] for key in state)


def test_first_names_of_torchvision_are_understood_as_torchvision_does() -> None:
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    state = {key: torch.rand_like(value.float()).to(value.dtype) for key, value in model.state_dict().items()}
    old = {as_before_0_13(key): value for key, value in state.items()}
    assert {"rpn.head.conv.bias", "backbone.fpn.inner_blocks.0.weight", "roi_heads.mask_head.mask_fcn4.bias"} <= set(
        old
    )
    converted = from_torchvision(old)
    model.load_state_dict(old)  # renames them itself
    expected = from_torchvision(model.state_dict())
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)


def test_a_detector_of_ours_becomes_one_of_torchvisions() -> None:
    """Trained on three classes, say; torchvision loads it and finds nothing missing or in excess."""
    section = {"backbone": "resnet50", "anchors": "torchvision", "rpn": {"convs": 1}}
    ours = build_detector(parse(DetectorSection, section, source="test"), CATEGORIES)
    model = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    model.load_state_dict(to_torchvision(ours.state_dict()))
    assert torch.equal(model.backbone.fpn.inner_blocks[0][0].weight, ours.neck.pyramid.inner_blocks[0][0].weight)
