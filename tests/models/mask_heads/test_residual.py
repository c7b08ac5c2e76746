"""The second head's logits are added to the first one's, which it leaves as they are."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.mask_heads import build_head, regions_of

LABELS = torch.tensor([1, 2, 3])


def with_last_layer(bias: float, residual_bias: float) -> torch.nn.Module:
    """A head whose two last layers answer constants."""
    head = build_head("residual")
    for layer, value in ((head.logits, bias), (head.residual.logits, residual_bias)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, value)
    return head


def test_at_first_both_masks_are_the_same() -> None:
    first, second = build_head("residual")(regions_of(3), LABELS).masks
    assert torch.equal(first, second)
    assert first.any()


def test_known_answer() -> None:
    first, second = with_last_layer(0.4, 1.1)(regions_of(3), LABELS).masks
    assert first.sigmoid().flatten().tolist() == pytest.approx([0.598688] * 432, abs=1e-6)
    assert second.sigmoid().flatten().tolist() == pytest.approx([0.817574] * 432, abs=1e-6)


def test_the_first_head_is_the_plain_one() -> None:
    plain, head = build_head("convs"), build_head("residual")
    missing, unexpected = head.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {"from_features", "from_mask", "residual"}
    torch.testing.assert_close(head(regions_of(3), LABELS).masks[0], plain(regions_of(3), LABELS).masks[0])


def test_the_second_head_sees_region_features_and_mask() -> None:
    head, regions, given = build_head("residual"), regions_of(3), []
    head.residual.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    said = head(regions, LABELS)
    features = head.convs(regions)
    mask = F.avg_pool2d(said.masks[0].sigmoid()[:, None], 2)
    torch.testing.assert_close(given[0], regions + head.from_features(features) + head.from_mask(mask))
    assert said.features.shape[1] == head.channels == 8


def test_each_mask_is_taught_by_its_own_loss() -> None:
    """The second one's loss reaches the first head's features, but not the logits that it adds to."""
    head = build_head("residual")
    torch.nn.init.normal_(head.residual.logits.weight)
    first, second = head(regions_of(3), LABELS).masks

    def taught(logits: Tensor) -> set[str]:
        head.zero_grad()
        logits.sum().backward(retain_graph=True)
        return {name.partition(".")[0] for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}

    assert taught(first) == {"convs", "upsample", "logits"}
    assert taught(second) == {"convs", "from_features", "from_mask", "residual"}


def test_the_second_head_has_convolutions_of_its_own() -> None:
    head = build_head("residual", channels=(8, 8, 8), residual_channels=(10,), norm="group")
    assert [len(head.convs), len(head.residual.convs), head.channels] == [3, 1, 10]
    assert sum(isinstance(module, torch.nn.GroupNorm) for module in head.modules()) == 4
    alike = build_head("residual", channels=(8, 12))
    assert [conv[0].out_channels for conv in alike.residual.convs] == [8, 12]
