"""The mask branch with several of its options at once, against what they are together, written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.test_every_part import LONG_TAIL, section
from tis_ray.models.assembly import build_detector
from tis_ray.models.boundary import boundary_loss
from tis_ray.models.mask_branch import MaskBranch
from tis_ray.models.positives import Positives

SIZE = (256, 320)
BOXES = [torch.tensor([[10.0, 10, 200, 230], [40, 20, 60, 30], [0, 0, 320, 256]]), torch.tensor([[9.0, 9, 150, 99]])]
LABELS = torch.tensor([1, 2, 3, 4])
SHARES = torch.tensor([0.02, 1, 0.1, 0.3])


def branch_of(*, head: str = "boundary", flow: bool = True) -> MaskBranch:
    """Three heads, regions by area ratio and masks that are rescored; its weights say something already."""
    torch.manual_seed(0)
    mask = {
        "head": {head: {"channels": [8]}},
        "area_ratio": {"beta": 1.0},
        "rescore": {"channels": 8, "hidden": 16},
        "cascade": {"information_flow": flow},
    }
    built = build_detector(section({"box.cascade": {"ious": [0.6, 0.7]}, "mask": mask}), LONG_TAIL)
    branch = built.roi_heads.mask_branch
    for head in branch.heads:
        nn.init.normal_(head.logits.weight, std=2)
    nn.init.normal_(branch.rescore.iou.weight, std=0.3)
    return branch


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {str(i): torch.randn(2, 16, SIZE[0] >> i + 2, SIZE[1] >> i + 2, generator=generator) for i in range(4)}


def told(branch: MaskBranch, levels: Tensor) -> tuple[Tensor, list[Any]]:
    """Regions of these levels, and what the three heads say of them."""
    sizes = [SIZE, SIZE]
    regions = branch.pool(features(), BOXES, sizes, levels=levels)
    finest = branch.finest(features(), BOXES, sizes)
    said = [branch.heads[0](regions, LABELS, finest=finest)]
    for head, flow in zip(branch.heads[1:], branch.flows or [None, None], strict=True):
        given = regions if flow is None else regions + flow(said[-1].features)
        said.append(head(given, LABELS, finest=finest))
    return regions, said


def mean_of(said: list[Any]) -> Tensor:
    return sum(one.masks[-1].sigmoid() for one in said) / 3


@pytest.mark.parametrize("flow", [True, False])
@torch.inference_mode()
def test_masks_are_those_of_the_second_look_and_so_is_what_is_said_of_their_fit(flow: bool) -> None:
    branch = branch_of(flow=flow).eval()
    usual = branch.pool.levels(BOXES)
    first = mean_of(told(branch, usual)[1])
    levels = branch.area_ratio.levels(BOXES, (first > 0.5).float().mean(dim=(1, 2)))
    assert (levels != usual).any()
    regions, said = told(branch, levels)
    found = branch(features(), BOXES, LABELS, [SIZE, SIZE], shared=nn.Identity())
    torch.testing.assert_close(found.probs, mean_of(said))
    torch.testing.assert_close(found.quality, branch.rescore(regions, mean_of(said), LABELS).clamp(0, 1))
    assert 0 < found.quality.max() < 1


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_stage_learns_on_the_levels_of_its_objects_and_the_last_one_how_well_masks_fit(
    stage: int, flow: bool
) -> None:
    branch = branch_of(flow=flow).train()
    generator = torch.Generator().manual_seed(2)
    targets, inside = torch.rand(4, 28, 28, generator=generator), torch.tensor([1, 0.5, 0.9, 0])
    found = Positives(BOXES, list(LABELS.split([3, 1])), targets, SHARES, inside if stage == 2 else None)
    losses = branch.losses(features(), found, [SIZE, SIZE], shared=nn.Identity(), stage=stage)

    levels = branch.area_ratio.levels(BOXES, SHARES)
    assert (levels != branch.pool.levels(BOXES)).any()
    regions, said = told(branch, levels)
    expected = {
        "loss_mask": F.binary_cross_entropy_with_logits(said[stage].masks[0], targets),
        "loss_boundary": boundary_loss(said[stage].boundary, targets),
    }
    if stage == 2:
        expected["loss_mask_iou"] = branch.rescore.loss(regions, mean_of(said), LABELS, targets=targets, inside=inside)
        assert expected["loss_mask_iou"] > 0
    torch.testing.assert_close(losses, expected)


@torch.inference_mode()
def test_the_finest_level_is_read_once_whatever_the_area_ratio_says() -> None:
    branch, reads = branch_of().eval(), []
    branch.finest.register_forward_hook(lambda *_: reads.append(1))
    branch(features(), BOXES, LABELS, [SIZE, SIZE], shared=nn.Identity())
    assert len(reads) == 1
