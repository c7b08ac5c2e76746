"""The light contour: one layer on the middle features, in training alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.mask_heads import ask, build_head, regions_of
from tis_ray.models.mask_heads import MaskLogits

LABELS = torch.tensor([1, 2, 3])


@pytest.mark.parametrize(("count", "middle"), [(0, 0), (1, 1), (2, 1), (4, 2), (7, 4)])
def test_the_middle_convolution_is_supervised(count: int, middle: int) -> None:
    """Enlarged features and then the layer, as it is described, are the same as the logits enlarged."""
    head = build_head("boundary_light", channels=(8,) * count)
    with torch.no_grad():
        features = regions_of(3)
        for conv in list(head.convs)[:middle]:
            features = conv(features)
        fine = F.interpolate(features, scale_factor=2, mode="bilinear")
        expected = F.conv2d(fine, head.boundary.weight, head.boundary.bias)[torch.arange(3), LABELS]
    torch.testing.assert_close(head(regions_of(3), LABELS).boundary, expected)


def test_a_contour_teaches_no_later_convolution() -> None:
    head = build_head("boundary_light", channels=(8, 8, 8))
    head(regions_of(3), LABELS).boundary.sum().backward()
    taught = {name for name, parameter in head.named_parameters() if parameter.grad is not None}
    assert {name.rpartition(".")[0] for name in taught} == {"convs.0.0", "convs.1.0", "boundary"}


def test_masks_are_those_of_the_plain_head() -> None:
    plain, light = build_head("convs"), build_head("boundary_light")
    missing, unexpected = light.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["boundary.weight", "boundary.bias"], [])

    def parts(said: MaskLogits) -> tuple[Tensor, ...]:
        return *said.masks, said.features

    for head in (light.train(), light.eval()):
        torch.testing.assert_close(
            parts(ask(head, regions_of(3), LABELS)), parts(ask(plain, regions_of(3), LABELS)), rtol=0, atol=0
        )
    assert light(regions_of(3), LABELS).boundary is None
