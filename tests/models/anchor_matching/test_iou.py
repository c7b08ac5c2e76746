"""Matching by overlap is torchvision's, whatever fits into memory at once."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from tis_ray.errors import ConfigError
from tis_ray.models.anchor_matching.iou import IouMatching, build


def whole_boxes(count: int, *, seed: int) -> Tensor:
    """Corners on whole pixels of a small frame, so that overlaps are often the same."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 12, (count, 2), generator=generator)
    return torch.cat([corners, corners + torch.randint(1, 8, (count, 2), generator=generator)], dim=1).float()


@pytest.mark.parametrize("pairs", [1, 50, 333, 2**20])
@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5), (0.95, 0.9)])
@pytest.mark.parametrize("count", [1, 7])
def test_equals_torchvisions(count: int, positive: float, negative: float, low_quality: bool, pairs: int) -> None:
    anchors, objects = whole_boxes(400, seed=count), whole_boxes(count, seed=99)
    rule = IouMatching(positive=positive, negative=negative, low_quality=low_quality, pairs=pairs)
    labels, matched = rule(anchors, objects)
    expected = Matcher(positive, negative, allow_low_quality_matches=low_quality)(box_iou(objects, anchors))
    assert torch.equal(labels, torch.where(expected >= 0, 1, torch.where(expected == -1, 0, -1)))
    assert torch.equal(matched[labels == 1], expected[expected >= 0])
    assert labels.dtype == matched.dtype == torch.int64


def test_ties_for_an_objects_best_are_all_positive() -> None:
    """A square between two anchors, far from what counts as overlap."""
    anchors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [100, 0, 108, 8]])
    labels, matched = build()(anchors, torch.tensor([[5.0, 3, 7, 5]]))
    assert labels.tolist() == [1, 1, 0]
    assert matched[:2].tolist() == [0, 0]
    assert build(low_quality=False)(anchors, torch.tensor([[5.0, 3, 7, 5]]))[0].tolist() == [0, 0, 0]


def test_an_object_that_no_anchor_touches_makes_none_positive() -> None:
    """Its best overlap is 0, which it has with every anchor."""
    anchors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8]])
    objects = torch.tensor([[50.0, 50, 51, 51], [0, 0, 8, 8]])
    labels, matched = build()(anchors, objects)
    assert labels.tolist() == [1, -1]
    assert matched[0] == 1


def test_an_anchor_that_is_the_best_of_one_object_goes_to_the_one_it_overlaps_most() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    objects = torch.tensor([[0.0, 0, 3, 3], [0, 0, 10, 6]])
    labels, matched = build()(anchors, objects)
    assert (labels.item(), matched.item()) == (1, 1)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"detector\.rpn\.matching: negative: expected at most .* 0\.5; got 0\.6"):
        build(positive=0.5, negative=0.6)
