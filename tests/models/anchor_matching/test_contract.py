"""What every rule that matches anchors with objects keeps to."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from tests.host_waits import host_waits
from tis_ray.menu import choices, pick
from tis_ray.models.anchor_matching import AnchorMatcher

MENU = "tis_ray.models.anchor_matching"


def grid_of_anchors() -> Tensor:
    """Squares of three sizes around every fourth pixel of a frame of 96 x 64, as three levels would lay them."""
    y, x = torch.meshgrid(torch.arange(2.0, 64, 4), torch.arange(2.0, 96, 4), indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(-1, 2)
    return torch.cat([torch.cat([centres - side / 2, centres + side / 2], dim=1) for side in (4, 12, 40)])


ANCHORS = grid_of_anchors()
OUTSIDE = (500.0, 500.0, 501.0, 501.0)
IMAGES: dict[str, list[tuple[float, float, float, float]]] = {
    "no objects": [],
    "one": [(10, 10, 24, 20)],
    "a pixel, and all of an image": [(7, 7, 8, 8), (0, 0, 96, 64)],
    "forty in one place": [(30, 30, 41, 43)] * 40,
    "one that no anchor touches": [OUTSIDE],
    "that and another": [OUTSIDE, (10, 10, 24, 20)],
    "one without area": [(20, 20, 20, 30), (10, 10, 24, 20)],
}


@pytest.fixture(params=choices(MENU))
def matcher(request: pytest.FixtureRequest) -> AnchorMatcher:
    build: Callable[[], AnchorMatcher] = pick(MENU, "build", request.param, key="rpn.matching")
    return build()


@pytest.fixture(params=IMAGES)
def objects(request: pytest.FixtureRequest) -> Tensor:
    return torch.tensor(IMAGES[request.param]).reshape(-1, 4)


def test_every_anchor_has_a_label_and_an_object(matcher: AnchorMatcher, objects: Tensor) -> None:
    anchors, boxes = ANCHORS.clone(), objects.clone()
    labels, matched = matcher(anchors, boxes)
    assert labels.dtype == matched.dtype == torch.int64
    assert labels.shape == matched.shape == (len(ANCHORS),)
    assert set(labels.tolist()) <= {-1, 0, 1}
    assert matched.min() >= 0
    assert matched.max() < max(len(objects), 1)
    assert torch.equal(anchors, ANCHORS)
    assert torch.equal(boxes, objects)


def test_positives_overlap_the_object_that_they_are_matched_with(matcher: AnchorMatcher, objects: Tensor) -> None:
    labels, matched = matcher(ANCHORS, objects)
    if len(objects) == 0:
        assert not labels.any()
        assert not matched.any()
        return
    overlaps = box_iou(ANCHORS, objects)
    assert (overlaps.gather(1, matched[:, None])[labels[:, None] == 1] > 0).all()
    assert (labels[overlaps.amax(dim=1) == 0] == 0).all()


def test_an_anchor_that_lies_on_an_object_is_positive(matcher: AnchorMatcher) -> None:
    places = torch.tensor([0, 500, 900])
    labels, matched = matcher(ANCHORS, ANCHORS[places])
    assert labels[places].tolist() == [1, 1, 1]
    assert matched[places].tolist() == [0, 1, 2]


def test_nothing_waits_for_the_device(matcher: AnchorMatcher, objects: Tensor) -> None:
    with host_waits() as waits:
        matcher(ANCHORS, objects)
    assert not waits
