"""Overlaps are torchvision's, in stretches that never hold all pairs of anchor and object."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.ops import box_iou

from tis_ray.models.anchor_matching import AnchorMatcher
from tis_ray.models.anchor_matching._overlaps import overlaps, stretches
from tis_ray.models.anchor_matching.iou import IouMatching
from tis_ray.models.anchor_matching.top_k import TopMatching

BOUNDS = {"positive": 0.7, "negative": 0.3}
MATCHERS = [
    pytest.param(IouMatching(**BOUNDS, low_quality=True, pairs=256), id="iou"),
    pytest.param(TopMatching(**BOUNDS, count=5, min_iou=0.1, pairs=256), id="top_k"),
]


def boxes(count: int, *, seed: int, span: float = 100) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2), generator=generator) * span
    return torch.cat([corners, corners + 1 + torch.rand((count, 2), generator=generator) * 30], dim=1)


def test_overlaps_are_torchvisions_to_the_bit() -> None:
    ours, theirs = boxes(20, seed=0), boxes(3000, seed=1)
    theirs[:20] = ours
    before = ours.clone(), theirs.clone()
    assert torch.equal(overlaps(ours, theirs), box_iou(ours, theirs))
    assert torch.equal(ours, before[0])
    assert torch.equal(theirs, before[1])


@pytest.mark.parametrize("pairs", [1, 40, 41, 10_000])
def test_stretches_follow_each_other(pairs: int) -> None:
    ours, theirs = boxes(4, seed=0), boxes(50, seed=1)
    parts = list(stretches(theirs, ours, pairs=pairs))
    assert max(part.numel() for part in parts) <= max(pairs, len(ours))
    assert torch.equal(torch.cat(parts, dim=1), box_iou(ours, theirs))


class Largest(TorchDispatchMode):
    """The largest tensor that any operator makes."""

    numel = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operator(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(one.numel() for one in tree_leaves(made) if isinstance(one, Tensor))])
        return made


@pytest.mark.parametrize("matcher", MATCHERS)
def test_no_rule_holds_all_pairs_at_once(matcher: AnchorMatcher) -> None:
    anchors, objects = boxes(600, seed=0), boxes(20, seed=1)
    with Largest() as largest:
        matcher(anchors, objects)
    assert largest.numel <= anchors.numel()


@pytest.mark.parametrize("matcher", MATCHERS)
def test_without_objects_every_anchor_is_negative(matcher: AnchorMatcher) -> None:
    labels, matched = matcher(boxes(9, seed=0), torch.zeros(0, 4))
    assert labels.dtype == matched.dtype == torch.int64
    assert labels.tolist() == matched.tolist() == [0] * 9
