"""Which sizes a view may speak for."""

import numpy as np
import pytest

from tis_ray.fusion.ranges import EVERY_SIZE, box_sizes, range_of, within
from tis_ray.instances import Instances
from tis_ray.views import View

SIDES = [16, 32, 64, 128]
SQUARES = Instances.of([[5, 5, 5 + side, 5 + side] for side in SIDES], [0.5] * 4, [0] * 4, source=SIDES)


@pytest.mark.parametrize(
    ("ranges", "kept"),
    [
        pytest.param({}, SIDES, id="no entry: every size"),
        pytest.param({"@800": (32, 128)}, [32, 64], id="low included, high excluded"),
        pytest.param({"@800": (0, 32), "a@800": (64, np.inf)}, [64, 128], id="own entry before its scale's"),
        pytest.param({"@400": (0, 32), "b@800": (0, 32)}, SIDES, id="others' entries"),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_keeps_the_sizes_in_range(ranges, kept, flip):
    assert within(SQUARES, range_of(View("a", 800, flip), ranges) or EVERY_SIZE).source.tolist() == kept


def test_size_is_the_root_of_the_area():
    boxes = np.array([[0, 0, 4, 16], [0, 0, 0, 9], [5, 5, 3, 3]], np.float32)
    assert box_sizes(boxes).tolist() == [8, 0, 0]


def test_no_instances_stay_none():
    assert len(within(Instances.empty(mask_size=28), (0.0, 9.0))) == 0
