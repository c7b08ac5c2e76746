"""The plain head: torchvision's layers, of any number."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from tests.mask_heads import build_head, regions_of


@pytest.mark.parametrize("count", [4, 7], ids=["Mask R-CNN", "LVIS 2020"])
def test_masks_are_torchvisions(count: int) -> None:
    head = build_head("convs", channels=(8,) * count)
    assert sum(isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) for module in head.modules()) == count
    theirs = nn.Sequential(MaskRCNNHeads(6, (8,) * count, dilation=1), MaskRCNNPredictor(8, 8, 4))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), head.state_dict().values(), strict=True)))
    labels = torch.tensor([1, 3, 2])
    (found,) = head(regions_of(3), labels).masks
    torch.testing.assert_close(found, theirs(regions_of(3))[torch.arange(3), labels])
