"""Floating point operations and workspaces against numbers worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d, roi_align

from tis_ray.inspection import formulas

MAPPING = {
    formulas.ROI_ALIGN: formulas.roi_align_flops,
    formulas.DEFORM_CONV: formulas.deform_conv_flops,
    **dict.fromkeys(formulas.WEIGHTED_SUMS, formulas.weighted_sum_flops),
}


def counted(call) -> int:
    with FlopCounterMode(display=False, custom_mapping=MAPPING) as counter:
        call()
    return counter.get_total_flops()


def test_a_3x3_convolution() -> None:
    conv = nn.Conv2d(16, 32, 3, stride=2, padding=1, device="meta")
    # 2 images, 10 x 20 places, 32 sums of 16 * 9 products, a product and its addition being two
    assert counted(lambda: conv(torch.empty(2, 16, 20, 40, device="meta"))) == 2 * (10 * 20) * 32 * (16 * 9) * 2


def test_a_deformable_convolution_reads_between_pixels_besides() -> None:
    images, weight = torch.rand(2, 8, 10, 12), torch.rand(4, 8, 3, 3)
    offset, mask = torch.zeros(2, 18, 10, 12), torch.ones(2, 9, 10, 12)
    plain = 2 * (10 * 12) * 4 * (8 * 9) * 2
    reads = 2 * (10 * 12) * (8 * 9)
    found = counted(lambda: deform_conv2d(images, offset, weight, padding=1, mask=mask))
    assert found == plain + reads * 4 * 2  # four neighbours each, a product and its addition being two


@pytest.mark.parametrize(("ratio", "points"), [(2, 4), (3, 9), (-1, 1)])
def test_roi_align_reads_so_many_points_of_each_cell(ratio: int, points: int) -> None:
    maps, rois = torch.rand(1, 8, 16, 16), torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0]] * 5)
    found = counted(lambda: roi_align(maps, rois, 7, 1.0, ratio))
    assert found == 5 * 8 * 7 * 7 * points * 8


@pytest.mark.parametrize("learnt", [True, False])
def test_a_weighted_sum_multiplies_and_adds_each_row(learnt: bool) -> None:
    rows, index, weights = (
        torch.rand(30, 8, requires_grad=learnt),
        torch.zeros(5, 16, dtype=torch.int64),
        torch.rand(5, 16),
    )
    found = counted(lambda: F.embedding_bag(index, rows, per_sample_weights=weights, mode="sum"))
    assert found == 5 * 16 * 8 * 2


def test_a_deformable_convolution_lays_out_what_it_multiplies() -> None:
    images, weight = torch.rand(3, 8, 10, 12), torch.rand(4, 8, 3, 3)
    offset, mask = torch.zeros(3, 18, 5, 6), torch.ones(3, 9, 5, 6)
    columns, result = 8 * 9 * 3 * 5 * 6, 3 * 4 * 5 * 6
    assert formulas.deform_conv_workspace(images, weight, offset, mask) == 4 * (columns + result)
    strided = images.contiguous(memory_format=torch.channels_last)
    copied = formulas.deform_conv_workspace(strided, weight, offset, mask)
    assert copied == 4 * (columns + result) + images.nbytes


def test_few_images_of_a_large_batch_are_laid_out_at_once() -> None:
    weight, sides = torch.rand(1, 1, 1, 1), (2, 2)
    found = {
        count: formulas.deform_conv_workspace(
            torch.rand(count, 1, *sides), weight, torch.zeros(count, 2, *sides), torch.ones(count, 1, *sides)
        )
        for count in (0, 32, 34)
    }
    assert found == {0: 0, 32: 4 * 4 * (32 + 32), 34: 4 * 4 * (17 + 34)}  # 17 is the most up to 32 that divide 34


def test_roi_align_copies_maps_that_lie_pixel_by_pixel() -> None:
    maps = torch.rand(1, 8, 4, 4)
    assert formulas.roi_align_workspace(maps) == 0
    assert formulas.roi_align_workspace(maps.contiguous(memory_format=torch.channels_last)) == maps.nbytes
