"""Logits of each region's own class are those that a plain convolution has in that class's channel."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tis_ray.models.mask_heads._own_class import OwnClassLogits


class Largest(TorchDispatchMode):
    """The most numbers that any result held."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def layer(num_classes: int, channels: int = 16) -> OwnClassLogits:
    torch.manual_seed(0)
    own = OwnClassLogits(channels, num_classes)
    nn.init.normal_(own.weight)
    nn.init.normal_(own.bias)
    return own


def inputs(count: int, num_classes: int, channels: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(1, num_classes + 1, (count,), generator=generator)
    return torch.randn((count, channels, 5, 7), generator=generator).requires_grad_(), labels


def plain(own: OwnClassLogits, features: Tensor, labels: Tensor) -> Tensor:
    return nn.Conv2d.forward(own, features)[torch.arange(len(labels)), labels]


@pytest.mark.parametrize("num_classes", [1, 8, 1203])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_the_plain_convolutions(num_classes: int, layout: torch.memory_format) -> None:
    own = layer(num_classes)
    features, labels = inputs(9, num_classes)
    weights, found = torch.randn(9, 5, 7), []
    for compute in (own, lambda *given: plain(own, *given)):
        logits = compute(features.contiguous(memory_format=layout), labels)
        found.append((logits, *torch.autograd.grad((logits * weights).sum(), (features, own.weight, own.bias))))
    torch.testing.assert_close(found[0], found[1])


def test_mixed_precision_differs_from_the_plain_convolution_by_its_rounding() -> None:
    own = layer(1203)
    features, labels = inputs(9, 1203)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = own(features, labels)
    with torch.no_grad():
        torch.testing.assert_close(rough.float(), plain(own, features, labels), atol=0.1, rtol=0.02)


def test_other_regions_of_the_batch_change_nothing() -> None:
    own = layer(8)
    features, labels = inputs(40, 8)
    whole = own(features, labels)
    for kept in (slice(0, 1), slice(3, 10), slice(39, 40)):
        torch.testing.assert_close(own(features[kept], labels[kept]), whole[kept], atol=1e-5, rtol=1e-5)


def test_memory_does_not_grow_with_the_classes() -> None:
    """Of 1203 classes all channels would be 75 times as many numbers as the features."""
    own = layer(1203)
    features, labels = inputs(9, 1203)
    with Largest() as largest:
        own(features, labels).sum().backward()
    assert largest.numel == max(features.numel(), own.weight.numel())


def test_no_regions_have_no_logits_and_gradients_of_zero() -> None:
    own = layer(8)
    features, labels = inputs(0, 8)
    logits = own(features, labels)
    assert logits.shape == (0, 5, 7)
    logits.sum().backward()
    assert not own.weight.grad.any()
    assert not own.bias.grad.any()


def test_first_masks_are_undecided() -> None:
    torch.manual_seed(0)
    own = OwnClassLogits(256, 3)
    features, labels = inputs(5, 3, channels=256)
    assert own(features, labels).abs().max() < 0.1
