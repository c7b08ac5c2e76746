"""Boxes of a label map's values and connected parts, against a comparison value by value and a flood fill."""

import numpy as np
import pytest

from tis_ray.errors import InputError
from tis_ray.ops import label_map


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (9, 12), (40, 31)])
def test_extents_are_the_tight_box_of_each_value(shape):
    rng = np.random.default_rng(0)
    for values in ([0], [65535], [0, 255, 33000, 65535], list(range(50))):
        labels = rng.choice(values, shape).astype(np.uint16)
        found, boxes = label_map.extents(labels)
        assert found.tolist() == sorted(set(labels.ravel().tolist()))
        for value, box in zip(found, boxes, strict=True):
            ys, xs = np.nonzero(labels == value)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def _flooded(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    left = set(zip(*np.nonzero(mask), strict=True))
    parts = []
    while left:
        part, reached = set(), [min(left)]
        while reached:
            y, x = pixel = reached.pop()
            if pixel in left:
                left.remove(pixel)
                part.add(pixel)
                reached += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        parts.append(part)
    return parts


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (25, 40)])
def test_components_are_what_a_flood_fill_reaches(shape, density):
    mask = (np.random.default_rng(1).random(shape) < density).astype(np.uint8)
    numbered = label_map.components(mask)
    expected = _flooded(mask)
    assert numbered.max() == len(expected)
    assert np.array_equal(numbered > 0, mask > 0)
    for part in expected:
        assert len({numbered[pixel] for pixel in part}) == 1


def test_a_spiral_is_one_part():
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], np.uint8)
    assert label_map.components(mask).max() == 1


def test_more_parts_than_numbers_are_refused():
    mask = np.zeros((514, 514), dtype=np.uint8)
    mask[::2, ::2] = 1  # 257 * 257
    with pytest.raises(InputError, match="at most 65535 connected parts; got 66049"):
        label_map.components(mask)
