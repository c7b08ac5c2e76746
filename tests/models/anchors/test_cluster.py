"""Cluster Anchor: the five sides that TIS gives, one on each level."""

import pytest

from tis_ray.errors import ConfigError
from tis_ray.models.anchors.cluster import build

STRIDES = (4, 8, 16, 32, 64)


def test_sides_are_those_of_the_paper() -> None:
    anchors = build(STRIDES)
    assert anchors.sizes == tuple((7 * multiple,) for multiple in (2, 8, 18, 38, 80))
    assert anchors.num_anchors_per_location() == [3] * 5


def test_a_single_map_gets_all_sides() -> None:
    assert build((16,)).sizes == ((14, 56, 126, 266, 560),)


def test_other_sides_may_be_given() -> None:
    assert build((4, 8), sizes=(10.5, 30.0), aspect_ratios=(1.0,)).sizes == ((10.5,), (30.0,))


def test_fewer_sides_than_levels_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected 5 levels"):
        build(STRIDES, sizes=(10.0, 30.0))
