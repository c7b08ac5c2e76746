"""Colours against torchvision's operations by hand, and their draws."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from tis_ray.data.photometric import Colours, Photometric, recolour

PLAIN = Colours(1.0, 1.0, 1.0, 0.0)


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 53, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_plain_colours_leave_the_picture(image):
    assert torch.equal(recolour(image, PLAIN), image)


@pytest.mark.parametrize(
    ("colours", "operation"),
    [
        (PLAIN._replace(brightness=0.9), lambda image: transforms.adjust_brightness(image, 0.9)),
        (PLAIN._replace(contrast=1.4), lambda image: transforms.adjust_contrast(image, 1.4)),
        (PLAIN._replace(saturation=0.6), lambda image: transforms.adjust_saturation(image, 0.6)),
        (PLAIN._replace(hue=-0.04), lambda image: transforms.adjust_hue(image, -0.04)),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_each_is_torchvisions(image, colours, operation):
    before = image.clone()
    found = recolour(image, colours)
    assert torch.equal(image, before)
    assert found.dtype == torch.uint8
    assert torch.equal(found, operation(image))


def test_draws_are_as_many_and_within_bounds():
    left = []
    for probability in (0.0, 1.0):
        chance = np.random.default_rng(0)
        assert (Photometric(probability).draw(chance) is None) == (probability == 0)
        left.append(chance.random())
    assert left[0] == left[1]
    drawn = np.array([Photometric(1.0, 0.2, 0.3, 0.4, 0.05).draw(np.random.default_rng(i)) for i in range(300)])
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    np.testing.assert_allclose(low, [0.8, 0.7, 0.6, -0.05], atol=0.02)
    np.testing.assert_allclose(high, [1.2, 1.3, 1.4, 0.05], atol=0.02)
    assert (low >= [0.8, 0.7, 0.6, -0.05]).all()
