"""Fixed, seeded boxes for benchmarks of fusion: the same figures come from the same boxes on every machine."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAME_HEIGHT, FRAME_WIDTH = 2710, 3384
TINY_PX = 32  # the WAD images: 60% of the objects have a smaller square root of their area
DUPLICATES = 10


class Detections(NamedTuple):
    """N boxes of one image: xyxy px float32 (N, 4), scores float32, labels int32 and number of the view int32."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    source: NDArray[np.int32]


def views_of_boxes(num_views: int = 20, num_boxes: int = 4000, num_classes: int = 80, seed: int = 0) -> Detections:
    """What the views of one 3384x2710 frame found: `num_boxes` in all, by view, around the same objects.

    Each view has found four fifths of the objects, each within a few percent of its sides, and calls one in twenty by
    another class. The sides of 60% are 6 to 32 px, of the others up to 1000 px; no two scores are equal.
    """
    rng = np.random.default_rng(seed)
    counts = np.diff(np.linspace(0, num_boxes, num_views + 1).astype(int))
    num_objects = int(counts.max(initial=0) * 1.25) + 1
    tiny = np.arange(num_objects) < 0.6 * num_objects
    sides = np.where(tiny, _log_uniform(rng, 6, TINY_PX, num_objects), _log_uniform(rng, TINY_PX, 1000, num_objects))
    objects = _place(rng, sides, (FRAME_WIDTH, FRAME_HEIGHT))
    classes = rng.integers(0, num_classes, num_objects)
    found = np.concatenate([np.zeros(0, int), *(rng.permutation(num_objects)[:count] for count in counts)])
    boxes = _jitter(rng, objects[found], 0.05)
    boxes = np.clip(boxes, 0, [FRAME_WIDTH, FRAME_HEIGHT, FRAME_WIDTH, FRAME_HEIGHT])
    labels = np.where(rng.random(num_boxes) < 0.05, rng.integers(0, num_classes, num_boxes), classes[found])
    source = np.repeat(np.arange(num_views), counts)
    return _detections(boxes, _scores(rng, num_boxes), labels, source)


def growing(num_boxes: int, seed: int = 0, *, num_classes: int = 1) -> Detections:
    """Ten jittered duplicates per object, sides 4 to 512 px, in a square that grows with `num_boxes`: same density.

    The boxes are in random order; `source` is the number of the duplicate.
    """
    rng = np.random.default_rng(seed)
    num_objects = -(-num_boxes // DUPLICATES)
    extent = 200 * np.sqrt(num_objects)  # about one object per 200x200 px, as in a busy street
    objects = _place(rng, _log_uniform(rng, 4, 512, num_objects), (extent, extent))
    which = rng.permutation(num_objects * DUPLICATES)[:num_boxes]
    classes = rng.integers(0, num_classes, num_objects)
    found = which // DUPLICATES
    boxes = _jitter(rng, objects[found], 0.05)
    return _detections(boxes, _scores(rng, num_boxes), classes[found], which % DUPLICATES)


def all_overlapping(num_boxes: int, seed: int = 0) -> Detections:
    """Boxes of one class that are all nearly the same: every pair has an IoU of more than 0.9."""
    rng = np.random.default_rng(seed)
    boxes = np.array([1000.0, 1000.0, 1100.0, 1100.0]) + rng.uniform(-1, 1, (num_boxes, 4))
    zeros = np.zeros(num_boxes, dtype=np.int32)
    return _detections(boxes, _scores(rng, num_boxes), zeros, zeros)


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> NDArray[np.float64]:
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _place(rng: np.random.Generator, sides: NDArray[np.float64], frame_wh: tuple[float, float]) -> NDArray[np.float64]:
    """Boxes (N, 4) whose area is `sides` squared, of mixed aspect ratios, anywhere in the frame."""
    aspect = np.exp(rng.normal(0, 0.4, len(sides)) / 2)
    wh = np.stack([sides * aspect, sides / aspect], axis=1)
    corners = rng.random((len(sides), 2)) * np.maximum(np.array(frame_wh) - wh, 0)
    return np.concatenate([corners, corners + wh], axis=1)


def _jitter(rng: np.random.Generator, boxes: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Each edge moved by a normal share of its side, no more than a quarter of it, so that no box turns over."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + np.clip(rng.normal(0, share, boxes.shape), -0.25, 0.25) * sides


def _scores(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Distinct scores between 0.05 and 1 in random order."""
    return np.asarray(rng.permutation(np.linspace(0.05, 0.999, count)), dtype=np.float32)


def _detections(
    boxes: NDArray[np.float64], scores: NDArray[np.float32], labels: NDArray[np.int64], source: NDArray[np.int64]
) -> Detections:
    return Detections(boxes.astype(np.float32), scores, labels.astype(np.int32), source.astype(np.int32))
