"""Masks pixel by pixel, the slow way: what runs are tested against."""

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as coco

from tis_ray.ops.runs import Runs


def runs_of(dense):
    """Runs of masks (N, H, W), column by column as COCO counts."""
    count, height, width = dense.shape
    columns = np.asarray(dense, dtype=np.int8).transpose(0, 2, 1).reshape(count, width * height)
    change = np.diff(np.pad(columns, ((0, 0), (1, 1))), axis=1)
    spans = np.stack([np.nonzero(change == 1)[1], np.nonzero(change == -1)[1]], axis=1).astype(np.int64)
    lengths = (change == 1).sum(axis=1)
    return Runs(height, width, spans, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def dense_of(runs):
    """Masks (N, H, W) bool of runs, which have to rise, not to touch and to lie within the image."""
    pixels = np.zeros((len(runs), runs.width * runs.height), dtype=np.bool_)
    for i in range(len(runs)):
        own = runs.spans[runs.offsets[i] : runs.offsets[i + 1]]
        assert (own[:, 0] < own[:, 1]).all()
        assert (own[1:, 0] > own[:-1, 1]).all()
        assert len(own) == 0 or (own[0, 0] >= 0 and own[-1, 1] <= pixels.shape[1])
        for start, stop in own:
            pixels[i, start:stop] = True
    return pixels.reshape(len(runs), runs.width, runs.height).transpose(0, 2, 1)


def coco_rles(dense):
    """pycocotools' own RLEs of masks (N, H, W)."""
    return [coco.encode(np.asfortranarray(one, dtype=np.uint8)) for one in dense]


@st.composite
def small_masks(draw, *, max_count=8, size=None):
    """Masks (N, H, W) of a small image: noise, rectangles, empty, full and single pixels, some of them twice."""
    height, width = size or (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from(["noise", "box", "empty", "full", "pixel", "again"]), max_size=max_count))
    masks = []
    for kind in kinds:
        mask = np.zeros((height, width), dtype=np.bool_)
        y, x = rng.integers(0, height), rng.integers(0, width)
        if kind == "noise":
            mask = rng.uniform(size=(height, width)) < rng.choice([0.2, 0.5, 0.9])
        elif kind == "box":
            mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = True
        elif kind == "full":
            mask[:] = True
        elif kind == "pixel":
            mask[y, x] = True
        elif kind == "again" and masks:
            mask = masks[rng.integers(0, len(masks))]
        masks.append(mask)
    return np.array(masks, dtype=np.bool_).reshape(-1, height, width)


def blobs(count, height, width, *, seed=0, sides=(3, 60), noise=0.1):
    """Masks (N, H, W) of noisy ellipses, with holes and specks beside them."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=np.bool_)
    for mask in masks:
        w, h = rng.uniform(*sides, 2)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        x1, x2 = max(int(x - w / 2), 0), min(int(x + w / 2) + 1, width)
        y1, y2 = max(int(y - h / 2), 0), min(int(y + h / 2) + 1, height)
        rows, columns = np.mgrid[y1:y2, x1:x2]
        inside = ((rows - y) / h) ** 2 + ((columns - x) / w) ** 2 <= 0.25
        mask[y1:y2, x1:x2] = inside ^ (rng.uniform(size=inside.shape) < noise)
    return masks
