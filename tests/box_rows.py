"""Boxes as rows for the tests of rules, and the IoU that their brute forces go by."""

import numpy as np

from tis_ray.instances import Instances


def instances_of(rows):
    """From (x, y, width, height, score, label) rows; sides may be 0, and duplicates and ties are likely."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Instances.of(boxes, table[:, 4], table[:, 5], source=np.arange(len(table)))


def iou_of(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if shared else 0.0
