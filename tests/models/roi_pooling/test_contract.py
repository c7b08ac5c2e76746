"""What every RoI pool promises: regions of its shape, image by image, each from the level that it is told."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.host_waits import host_waits
from tis_ray.menu import choices, pick
from tis_ray.models import pyramid_align
from tis_ray.models.pyramid_align import Pyramid
from tis_ray.models.roi_levels import fpn_levels

STRIDES = (4, 8, 16, 32)
SIZES = [(256, 320), (256, 320)]
BOXES = [
    torch.tensor([[3.0, 5.0, 40.0, 33.0], [0.0, 0.0, 320.0, 256.0], [50.0, 20.0, 57.0, 190.0], [7.0, 7.0, 7.0, 7.0]]),
    torch.tensor([[10.0, 10.0, 90.0, 60.0], [300.0, 250.0, 320.0, 256.0]]),
]
COUNT = 6
OPTIONS = {"subnet": {"channels": 8}, "deformable": {"hidden": 16}}


@pytest.fixture(params=choices("tis_ray.models.roi_pooling"))
def build(request: pytest.FixtureRequest) -> Any:
    """Makes the pool of a pyramid, always with the same weights, some of which are not the first ones."""
    function = pick("tis_ray.models.roi_pooling", "build", request.param, key="test")

    def made(strides: tuple[int, ...] = STRIDES) -> nn.Module:
        torch.manual_seed(0)
        pool = function(Pyramid(6, strides, fpn_levels(strides)), 5, **OPTIONS.get(request.param, {}))
        for parameter in pool.parameters():
            nn.init.normal_(parameter, std=0.1)
        return pool.eval()

    return made


def pyramid() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, 256 // stride, 320 // stride) for stride in STRIDES]
    return {str(i): torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}


def test_regions_have_the_shape_that_is_told(build: Any) -> None:
    pool = build()
    assert pool.output_size == 5
    found = pool(pyramid(), BOXES, SIZES)
    assert found.shape == (COUNT, pool.out_channels, 5, 5)
    assert torch.equal(found, pool(pyramid(), BOXES, SIZES, levels=pool.levels(BOXES)))


@pytest.mark.parametrize("level", range(len(STRIDES)))
def test_regions_are_read_from_the_level_that_is_asked_for(build: Any, level: int) -> None:
    found = build()(pyramid(), BOXES, SIZES, levels=torch.full((COUNT,), level))
    alone = build((STRIDES[level],))({"0": pyramid()[str(level)]}, BOXES, SIZES)
    torch.testing.assert_close(found, alone)


def test_images_do_not_see_each_other(build: Any) -> None:
    pool, features = build(), pyramid()
    each = [
        pool({name: maps[i : i + 1] for name, maps in features.items()}, [BOXES[i]], [SIZES[i]])
        for i in range(len(BOXES))
    ]
    torch.testing.assert_close(pool(features, BOXES, SIZES), torch.cat(each))


@pytest.mark.parametrize("training", [True, False])
def test_no_boxes_are_no_regions_and_reach_every_weight(build: Any, training: bool) -> None:
    pool = build().train(training)
    features = {name: maps.requires_grad_() for name, maps in pyramid().items()}
    none = pool(features, [boxes[:0] for boxes in BOXES], SIZES)
    assert none.shape == (0, pool.out_channels, 5, 5)
    none.sum().backward()
    assert all(one.grad is not None and not one.grad.any() for one in (*pool.parameters(), *features.values()))


def test_mixed_precision_answers_in_the_type_of_maps_and_stays_near(build: Any) -> None:
    pool = build()
    halved = {name: maps.bfloat16() for name, maps in pyramid().items()}
    exact = pool({name: maps.float() for name, maps in halved.items()}, BOXES, SIZES)
    with torch.autocast("cpu", torch.bfloat16):
        found = pool(halved, BOXES, SIZES)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.02)


def test_a_box_that_is_no_number_spoils_no_other(build: Any) -> None:
    pool = build()
    found = pool(pyramid(), [torch.cat([BOXES[0], torch.full((1, 4), torch.nan)]), BOXES[1]], SIZES)
    clean = pool(pyramid(), BOXES, SIZES)
    torch.testing.assert_close(torch.cat([found[:4], found[5:]]), clean)


@pytest.mark.parametrize("training", [True, False])
def test_a_gpu_is_not_waited_for(build: Any, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid_align, "waiting_is_free", lambda device: False)
    pool = build().train(training)
    features = {name: maps.requires_grad_() for name, maps in pyramid().items()}
    with host_waits() as waits:
        pool(features, BOXES, SIZES).sum().backward()
    assert not waits


def test_what_is_given_stays_as_it_was(build: Any) -> None:
    features, boxes = pyramid(), [one.clone() for one in BOXES]
    build().train()(features, boxes, SIZES)
    assert all(torch.equal(features[name], maps) for name, maps in pyramid().items())
    assert all(torch.equal(one, other) for one, other in zip(boxes, BOXES, strict=True))
