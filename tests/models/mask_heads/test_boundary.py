"""The two branches of BMask R-CNN tell each other what they have found."""

import pytest
import torch
import torch.nn.functional as F

from tests.mask_heads import ask, build_head, regions_of
from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.models.assembly import build_detector, check_parts

LABELS = torch.tensor([1, 2, 3])


def test_the_branches_are_put_together_as_in_the_paper() -> None:
    head = build_head("boundary")
    regions, finest = regions_of(3), regions_of(3, size=12, seed=2)
    layers = dict(head.named_modules())

    def conv(name: str, values: torch.Tensor, **how: int) -> torch.Tensor:
        return F.relu(F.conv2d(values, layers[name].weight, layers[name].bias, **how))

    def masks(prefix: str, values: torch.Tensor) -> torch.Tensor:
        deconv, last = layers[f"{prefix}upsample"], layers[f"{prefix}logits"]
        fine = F.relu(F.conv_transpose2d(values, deconv.weight, deconv.bias, stride=2))
        return F.conv2d(fine, last.weight, last.bias)[torch.arange(3), LABELS]

    mask = conv("convs.1.0", conv("convs.0.0", regions, padding=1), padding=1)
    contour = conv("reduce.0", finest, stride=2, padding=1) + conv("to_contour.0", mask)
    contour = conv("contour.convs.1.0", conv("contour.convs.0.0", contour, padding=1), padding=1)
    fused = conv("fuse.0", mask + conv("to_mask.0", contour), padding=1)
    said = head(regions, LABELS, finest=finest)
    torch.testing.assert_close(said.features, fused)
    torch.testing.assert_close(said.masks, (masks("", fused),))
    torch.testing.assert_close(said.boundary, masks("contour.", contour))


def test_it_asks_for_regions_of_twice_the_side() -> None:
    assert build_head("boundary", pool_size=14).finest_size == 28


def test_contours_are_told_in_training_alone() -> None:
    head = build_head("boundary")
    assert ask(head.train(), regions_of(3), LABELS).boundary is not None
    assert ask(head.eval(), regions_of(3), LABELS).boundary is None


def detector_section(**parts: object) -> DetectorSection:
    mask = {"head": {"boundary": {"channels": [16]}}}
    return parse(DetectorSection, {**TINY_DETECTOR, "mask": mask, **parts}, source="test")


def test_its_finest_regions_come_from_the_first_level_however_large_they_are() -> None:
    torch.manual_seed(0)
    detector = build_detector(detector_section(), CATEGORIES)
    branch, given = detector.roi_heads.mask_branch, []
    branch.heads[0].register_forward_pre_hook(lambda _, __, named: given.append(named["finest"]), with_kwargs=True)
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 600, 500]])
    maps = [torch.full((1, 16, 512 >> level, 640 >> level), float(level)) for level in range(2, 6)]
    features = {str(number): level for number, level in enumerate(maps)}
    with torch.no_grad():
        detector.eval().segment(features, [boxes], [torch.tensor([1, 2])], [(512, 640)])
    assert given[0].shape == (2, 16, 28, 28)
    torch.testing.assert_close(given[0], torch.full_like(given[0], 2))


@pytest.mark.parametrize("pooling", ["align", {"align": {"aligned": True}}, "deformable"])
def test_both_branches_read_the_same_places(pooling: object) -> None:
    """Of a map whose values are its own x, at twice the resolution the pairs' means are the coarse cells."""
    mask = {"head": {"boundary": {"channels": [16]}}, "pooling": pooling}
    branch = build_detector(detector_section(mask=mask), CATEGORIES).roi_heads.mask_branch
    maps = {str(i): torch.arange(128.0).expand(1, 16, 64, -1) for i in range(4)}  # a box of 80 px is read from level 0
    box = torch.tensor([[40.0, 40, 120, 120]])
    with torch.no_grad():
        coarse, fine = (pool(maps, [box], [(256, 512)]) for pool in (branch.pool, branch.finest))
    torch.testing.assert_close(F.avg_pool2d(fine, 2), coarse, atol=1e-4, rtol=1e-4)


def test_a_single_map_whose_regions_have_other_channels_is_refused() -> None:
    section = detector_section(
        backbone="resnet18",
        neck="c4",
        anchors={"exact": {"sizes": [[8, 16, 32]]}},
        box={"head": "average", "pool_size": 6},
        mask={"head": "boundary", "pool_size": 6},
    )
    with pytest.raises(ConfigError, match=r"^detector\.mask\.head: boundary also reads .*, 256; got 512 \(boundary_li"):
        check_parts(section)
