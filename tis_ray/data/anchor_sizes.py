"""Cluster Anchor's sizes (TIS, WAD 2018): k-means over the scales s = sqrt(w * h) of a data set's objects.

Lloyd's steps, from centres at quantiles until nothing changes. scipy finds the nearest centres; its `kmeans2` would
neither stop there nor fill a cluster that becomes empty, and knows no distance but Euclid's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import vq

from tis_ray.errors import ConfigError

SPACES = ("linear", "log", "iou")
MAX_ITERATIONS = 100
_DECIMALS = 6  # sizes that differ by less are the same one, resized by factors that were rounded

Points = NDArray[np.float64]  # (N, D)
Nearest = Callable[[Points, Points], tuple[NDArray[np.intp], NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class SizeClusters:
    """K clusters of objects by rising size: centres in pixels (K,), and the share of the objects that each has (K,)."""

    sizes: NDArray[np.float64]
    shares: NDArray[np.float64]


def check_space(space: str) -> None:
    """Raise `ConfigError` for a space that nothing can be clustered in."""
    if space not in SPACES:
        raise ConfigError(f"space: expected one of {', '.join(SPACES)}; got '{space}'")


def cluster_sizes(sides_wh: NDArray[np.float64], *, count: int, space: str = "linear") -> SizeClusters:
    """The `count` typical sizes of N > 0 objects by their widths and heights (N, 2) in pixels, all above 0.

    space: what is clustered: s = sqrt(w * h) by itself (`linear`) or its logarithm (`log`), or boxes (w, h) by the
           distance 1 - IoU of boxes laid centre on centre (`iou`), where a centre's size is the s of the mean box

    Raises `ConfigError` for an unknown space and for more clusters than there are different objects.
    """
    check_space(space)
    scales = np.sqrt(sides_wh.prod(axis=1))
    keys = sides_wh @ np.array([1, 1j]) if space == "iou" else scales
    different = len(np.unique(keys.round(_DECIMALS)))
    if not 1 <= count <= different:
        raise ConfigError(f"levels: expected 1 to {different}, as many as there are different sizes; got {count}")
    points = {"linear": scales[:, None], "log": np.log(scales)[:, None], "iou": sides_wh}[space]
    middles = ((np.arange(count) + 0.5) / count * len(points)).astype(np.intp)
    first = points[np.argsort(scales, kind="stable")[middles]]
    centres, labels = k_means(points, first, nearest=nearest_by_iou if space == "iou" else vq)
    sizes = np.sqrt(centres.prod(axis=1)) if space == "iou" else centres[:, 0]
    sizes = np.exp(sizes) if space == "log" else sizes
    order = np.argsort(sizes)
    return SizeClusters(sizes[order], np.bincount(labels, minlength=count)[order] / len(points))


def k_means(
    points: Points, centres: Points, *, nearest: Nearest = vq, max_iterations: int = MAX_ITERATIONS
) -> tuple[Points, NDArray[np.intp]]:
    """Centres (K, D) after Lloyd's steps from `centres`, and the index of each point's nearest one (N,).

    `nearest(points, centres)` gives that index and the distance. A cluster without points starts anew at the point
    that is farthest from all centres.
    """
    labels, _ = nearest(points, centres)
    for _ in range(max_iterations):
        centres = _means(points, labels, centres, nearest)
        before = labels
        labels, _ = nearest(points, centres)
        if np.array_equal(labels, before):
            break
    return centres, labels


def nearest_by_iou(boxes_wh: Points, centres_wh: Points) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of each box (N, 2) the index of the nearest centre (K, 2), and the distance 1 - IoU, both centre on centre."""
    labels, best = np.zeros(len(boxes_wh), dtype=np.intp), np.zeros(len(boxes_wh))
    widths, heights = np.ascontiguousarray(boxes_wh.T)
    areas = widths * heights
    for k, (width, height) in enumerate(centres_wh.tolist()):
        shared = np.minimum(widths, width) * np.minimum(heights, height)
        ious = shared / (areas + width * height - shared)
        labels[ious > best] = k
        np.maximum(best, ious, out=best)
    return labels, 1 - best


def _means(points: Points, labels: NDArray[np.intp], centres: Points, nearest: Nearest) -> Points:
    counts = np.bincount(labels, minlength=len(centres))
    sums = np.stack([np.bincount(labels, weights=axis, minlength=len(centres)) for axis in points.T], axis=1)
    means = np.asarray(sums / np.maximum(counts, 1)[:, None])
    filled = counts > 0
    for empty in np.flatnonzero(~filled):
        means[empty] = points[nearest(points, means[filled])[1].argmax()]
        filled[empty] = True
    return means
