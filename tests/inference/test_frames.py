"""Boxes are mapped on the device as a view maps them on the host, to the bit."""

import numpy as np
import pytest
import torch

from tis_ray.inference.frames import Frames
from tis_ray.views import View

CPU = torch.device("cpu")
TILES = [
    View("m", 1810),
    View("m", 1810, flip=True),
    View("m", 777, True, (13, 7, 1001, 661)),
    View("m", 333, max_long_edge=401, crop=(-20, 50, 90, 4000)),
]
IMAGE_HW = (2710, 3384)


@pytest.mark.parametrize("counts", [(40, 3, 0, 17), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_boxes_are_those_of_the_views_to_the_bit(counts: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    boxes = [generator.uniform(0, 4500, (count, 4)).astype(np.float32) for count in counts]
    frames = Frames(TILES, IMAGE_HW, counts, device=CPU)
    together = torch.from_numpy(np.concatenate(boxes))
    to_image = [tile.boxes_to_image(one, IMAGE_HW) for tile, one in zip(TILES, boxes, strict=True)]
    to_network = [tile.boxes_to_network(one, IMAGE_HW) for tile, one in zip(TILES, boxes, strict=True)]
    for found, expected in ((frames.to_image(together), to_image), (frames.to_network(together), to_network)):
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), np.concatenate(expected))
