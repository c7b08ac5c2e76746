"""Suppression inside groups equals a loop of torchvision's NMS over the groups, in float32 as the boxes are."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from tests.host_waits import host_waits
from tis_ray.models.nms import grouped_nms


def one_by_one(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> list[int]:
    """Places kept, by a loop over groups; best first, of equal scores the first."""
    kept: list[int] = []
    for group in groups.unique():
        places = torch.where((groups == group) & valid)[0]
        kept += places[nms(boxes[places], scores[places], iou_threshold)].tolist()
    return sorted(kept, key=lambda place: (-scores[place].item(), place))


def some(
    count: int, *, num_groups: int, extent: float, sides: tuple[float, float], seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clusters of overlapping boxes, some all but equal, with tied scores; the invalid ones are often the best."""
    generator = torch.Generator().manual_seed(seed)
    shortest, longest = sides
    side = shortest * (longest / shortest) ** torch.rand((count, 1), generator=generator)
    objects = torch.rand((max(count // 12, 1), 2), generator=generator) * extent
    chosen = torch.randint(len(objects), (count,), generator=generator)
    corner = objects[chosen] + side * torch.rand((count, 2), generator=generator) / 2
    boxes = torch.cat([corner, corner + side * (0.8 + 0.4 * torch.rand((count, 2), generator=generator))], dim=1)
    similar = len(boxes[1::4])
    boxes[1::4] = boxes[::4][:similar] + side[::4][:similar] * 0.06 * torch.rand((similar, 4), generator=generator)
    chosen[1::4] = chosen[::4][:similar]
    scores = torch.randint(1, 60, (count,), generator=generator) / 64
    groups = chosen % num_groups
    valid = (torch.rand(count, generator=generator) < 0.8) & (scores < 0.85)
    return boxes, scores, groups, valid


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.7, 0.9])
@pytest.mark.parametrize(
    ("num_groups", "extent", "sides"),
    [
        pytest.param(1, 100, (5, 50), id="one group"),
        pytest.param(5, 2000, (8, 2000), id="levels of a pyramid"),
        pytest.param(1203, 8000, (0.5, 500), id="1203 classes to 8000 px"),
        pytest.param(1203, 8000, (0.01, 2), id="tiny boxes far out"),
        pytest.param(7, -300, (4, 40), id="negative coordinates"),
    ],
)
def test_equals_a_loop_over_groups(
    num_groups: int, extent: float, sides: tuple[float, float], iou_threshold: float
) -> None:
    boxes, scores, groups, valid = some(1500, num_groups=num_groups, extent=extent, sides=sides)
    kept = grouped_nms(boxes, scores, groups, valid, iou_threshold=iou_threshold).tolist()
    assert kept == one_by_one(boxes, scores, groups, valid, iou_threshold)
    assert 0 < len(kept) < valid.sum()


@pytest.mark.parametrize("count", [0, 1, 30])
def test_keeps_nothing_where_nothing_is_valid(count: int) -> None:
    boxes, scores, groups, valid = some(count, num_groups=3, extent=50, sides=(1, 50))
    kept = grouped_nms(boxes, scores, groups, valid & False, iou_threshold=0.9)
    assert kept.dtype == torch.int64
    assert kept.shape == (0,)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -1e30])
def test_an_invalid_box_may_hold_anything(broken: float) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [broken] * 4, [0, 0, 10, 9], [20, 20, 30, 30]])
    groups = torch.tensor([0, -7, 0, 0])
    scores, valid = torch.tensor([0.5, 1.0, 0.6, 0.1]), torch.tensor([True, False, True, True])
    assert grouped_nms(boxes, scores, groups, valid, iou_threshold=0.5).tolist() == [2, 3]


def test_a_box_at_the_threshold_stays_and_a_box_without_area_too() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [3, 3, 3, 3]], dtype=torch.float32)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    kept = grouped_nms(boxes, scores, torch.zeros(4, dtype=torch.int64), scores > 0, iou_threshold=0.5)
    assert kept.tolist() == [0, 1, 3]


def test_a_box_where_invalid_ones_are_put_aside_is_kept_like_any_other() -> None:
    boxes = torch.tensor([[0, 0, 1, 1], [5, 5, 9, 9]], dtype=torch.float32)
    scores, groups, valid = torch.tensor([0.1, 0.9]), torch.zeros(2, dtype=torch.int64), torch.tensor([True, False])
    assert grouped_nms(boxes, scores, groups, valid, iou_threshold=0.0).tolist() == [0]


def test_only_nms_itself_waits_for_the_device() -> None:
    boxes, scores, groups, valid = some(60, num_groups=3, extent=50, sides=(1, 50))
    with host_waits() as waits:
        grouped_nms(boxes, scores, groups, valid, iou_threshold=0.5)
    assert waits == {"torchvision::nms": 1}
