"""Deformable RoI pooling: RoIAlign at first, moved cells by known answers, gradients to what moves them."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from tis_ray.models.context import ContextPooling
from tis_ray.models.pyramid_align import Pyramid
from tis_ray.models.roi_levels import fpn_levels
from tis_ray.models.roi_pooling.deformable import DeformableRoIPool, build

STRIDES = (4, 8, 16)
PYRAMID = Pyramid(3, STRIDES, fpn_levels(STRIDES))
SIZES = [(64, 96), (64, 96)]
BOXES = [
    torch.tensor([[3.0, 5.0, 40.0, 33.0], [0.0, 0.0, 96.0, 64.0], [-20.0, 20.0, 9.0, 80.0], [7.0, 7.0, 7.0, 7.0]]),
    torch.tensor([[10.0, 10.0, 90.0, 60.0]]),
]
LEVELS = torch.tensor([0, 2, 1, 1, 1])
ROIS = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], 1) for i, b in enumerate(BOXES)])


def pyramid() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 64 // stride, 96 // stride) for stride in STRIDES]
    return {str(i): torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}


def aligned(features: dict[str, Tensor], size: int) -> Tensor:
    answers = [roi_align(features[str(i)], ROIS, size, 1 / stride, 2, True) for i, stride in enumerate(STRIDES)]
    return torch.stack(answers, dim=1)[torch.arange(len(ROIS)), LEVELS]


def moved(pool: DeformableRoIPool, *planes: float) -> DeformableRoIPool:
    """The same offset x, offset y (and modulation before the sigmoid) for every cell."""
    with torch.no_grad():
        pool.predictor[-1].bias.copy_(torch.tensor(planes).repeat_interleave(pool.output_size**2))
    return pool


@pytest.mark.parametrize("modulated", [True, False])
def test_new_weights_pool_as_roi_align(modulated: bool) -> None:
    ours, theirs = pyramid(), pyramid()
    for value in (*ours.values(), *theirs.values()):
        value.requires_grad_()
    found = build(PYRAMID, 7, modulated=modulated, hidden=8)(ours, BOXES, SIZES, levels=LEVELS)
    expected = aligned(theirs, 7)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(found.shape)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, other in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("offset", "columns"), [(0.0, [3.5, 7.5]), (1.0, [4.3, 8.3]), (-1.0, [2.7, 6.7])])
def test_cells_of_a_ramp_move_by_a_share_of_the_region(offset: float, columns: list[float]) -> None:
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    pool = moved(build(Pyramid(1, (1,), fpn_levels((1,))), 2, modulated=False, hidden=4), offset, 0.0)
    found = pool({"0": ramp}, [torch.tensor([[2.0, 2, 10, 10]])], [(12, 12)])
    torch.testing.assert_close(found[0, 0], torch.tensor([columns, columns]))
    upright = moved(pool, 0.0, offset)({"0": ramp.transpose(2, 3)}, [torch.tensor([[2.0, 2, 10, 10]])], [(12, 12)])
    torch.testing.assert_close(upright[0, 0], torch.tensor([columns, columns]).T)


def test_modulation_goes_from_0_to_2() -> None:
    features = pyramid()
    for logit, factor in ((-30.0, 0.0), (0.0, 1.0), (30.0, 2.0)):
        pool = moved(build(PYRAMID, 3, hidden=8), 0.0, 0.0, logit)
        torch.testing.assert_close(pool(features, BOXES, SIZES, levels=LEVELS), factor * aligned(features, 3))


def test_gradients_of_offsets_are_those_of_small_steps() -> None:
    """A line through each cell's two neighbours in each direction; no point crosses a pixel's centre meanwhile."""
    features = {name: value.double() for name, value in pyramid().items()}
    pool = moved(build(PYRAMID, 2, hidden=4).double(), 0.31, -0.17, 0.4)
    weight = torch.randn((5, 3, 2, 2), dtype=torch.float64)
    bias = pool.predictor[-1].bias

    def answer() -> Tensor:
        return (pool(features, BOXES, SIZES, levels=LEVELS) * weight).sum()

    answer().backward()
    step = 1e-6
    for i in range(len(bias)):
        with torch.no_grad():
            bias[i] += step
            more = answer()
            bias[i] -= 2 * step
            less = answer()
            bias[i] += step
        torch.testing.assert_close(bias.grad[i], (more - less) / (2 * step), rtol=1e-4, atol=1e-6)


def test_boxes_are_given_no_gradient() -> None:
    boxes = [box.clone().requires_grad_() for box in BOXES]
    found = moved(build(PYRAMID, 2, hidden=4), 0.3, 0.3, 0.0)(pyramid(), boxes, SIZES)
    found.sum().backward()
    assert all(box.grad is None for box in boxes)


def test_offsets_that_are_no_numbers_show_and_read_no_foreign_memory() -> None:
    for offset in (float("nan"), float("inf")):
        pool = moved(build(PYRAMID, 2, modulated=False, hidden=4), offset, 0.0)
        found = pool(pyramid(), BOXES, SIZES)
        assert found[0].isnan().all() if offset != offset else not found[0].any()


def test_mixed_precision_computes_in_float32() -> None:
    pool, features = moved(build(PYRAMID, 7, hidden=8), 0.3, -0.4, 0.2), pyramid()
    halved = {name: value.bfloat16() for name, value in features.items()}
    exact = pool({name: value.float() for name, value in halved.items()}, BOXES, SIZES)
    with torch.autocast("cpu", torch.bfloat16):
        found = pool(halved, BOXES, SIZES)
    assert torch.equal(found, exact.bfloat16())


def test_regions_with_context_are_pooled_by_it() -> None:
    pool = build(PYRAMID, 3, hidden=4)
    added = ContextPooling(pool, factor=1.5, merge="add")(pyramid(), BOXES, SIZES)
    assert added.shape == (5, 3, 3, 3)
