"""The neck without a pyramid: one map, as the backbone made it."""

import pytest
import torch

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.menu import pick
from tis_ray.models.assembly import build_detector
from tis_ray.models.backbones._features import Features


def test_the_map_of_stride_16_is_the_only_level() -> None:
    neck = pick("tis_ray.models.necks", "build", "c4", key="neck")((4, 8, 12, 16))
    maps = [torch.rand(2, 4, 16, 24), torch.rand(2, 8, 8, 12), torch.rand(2, 12, 4, 6)]
    levels = neck(maps)
    assert list(levels) == ["0"]
    assert levels["0"] is maps[2]
    assert (neck.out_channels, neck.strides, neck.roi_levels, neck.leaves_last_stage) == (12, (16,), 1, True)
    assert not list(neck.state_dict())


def test_a_backbone_without_a_stage_to_hand_over_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """HRNet's last map, for one, is made of all branches together."""
    monkeypatch.delattr(Features, "take_last_stage")
    detector = {**TINY_DETECTOR, "backbone": "resnet18", "neck": "c4"}
    with pytest.raises(ConfigError, match=r"^detector\.neck: c4 expects a backbone that hands over .*; got resnet18$"):
        build_detector(parse(DetectorSection, detector, source="test"), CATEGORIES)
