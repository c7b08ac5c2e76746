"""The default mask policy."""

import numpy as np

from tis_ray.fusion.mask_select import best
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks


def test_each_instance_keeps_its_own_mask():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 5, 5]], np.float32)
    pool = Instances.of(boxes, [0.9, 0.8], [0, 0], BoxMasks(boxes, np.eye(2, dtype=np.float16)[None].repeat(2, 0)))
    selected = best.select(pool[[1]], Pool.of(pool))
    np.testing.assert_array_equal(selected.masks.boxes, boxes[[1]])
