"""Any detector that can be checked can be looked at without a device, whatever its parts do while they are built."""

from functools import wraps
from typing import Any

import pytest
from torch import nn

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection
from tis_ray.inspection.dry_run import DryRun
from tis_ray.inspection.training_step import training_peak
from tis_ray.models.necks import fpn

SECTION = DetectorSection.model_validate(TINY_DETECTOR)


def training_bytes() -> int:
    """Of a step on one small frame."""
    peak = training_peak(SECTION, CATEGORIES, (64, 96), num_frames=1, bfloat16=False, recompute=False)
    return peak.num_bytes


def test_a_part_may_look_at_values_while_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch draws a truncated normal until no value lies outside; ConvNeXt and Swin begin with one."""
    flops, memory = DryRun(SECTION, CATEGORIES).flops((64, 96)), training_bytes()
    plain, drawn = fpn.build, []

    @wraps(plain)
    def curious(*inputs: Any, **options: Any) -> nn.Module:
        neck = plain(*inputs, **options)
        drawn.extend(nn.init.trunc_normal_(weight, std=0.02) for weight in neck.parameters())
        return neck

    monkeypatch.setattr(fpn, "build", curious)
    assert DryRun(SECTION, CATEGORIES).flops((64, 96)) == flops
    assert training_bytes() == memory
    assert drawn


def test_its_weights_are_shapes_alone() -> None:
    detector = DryRun(SECTION, CATEGORIES).detector
    assert {weight.device.type for weight in detector.state_dict().values()} == {"cuda"}
    assert all(weight.requires_grad for weight in detector.parameters())
