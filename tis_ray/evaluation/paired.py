"""In what two sets of results of the same images differ, and whether another choice of images could explain it.

The images are drawn anew, with replacement, many times; each time both sets are scored on the same draw. What is the
same in both, above all how hard the drawn images are, leaves the difference, which varies far less than either score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.evaluation.bootstrap import class_means, draws, percentile_interval
from tis_ray.evaluation.coco import FREQUENCIES
from tis_ray.evaluation.greedy import RECALLS, SIZES, THRESHOLDS, inside, match, ranks, roles_by_class
from tis_ray.evaluation.overlaps import Overlaps
from tis_ray.evaluation.size_bins import EDGES_PX, bin_names, size_ranges
from tis_ray.instances import Categories

FEWEST_IMAGES = 5  # with objects; draws of fewer say nothing of other images
_AP, _AP50, _AP75, _AR = range(4)  # columns of samples
_SMALLEST = float(np.spacing(1.0))

Samples = NDArray[np.float64]  # (S, K, 4) of each draw and class AP, AP50, AP75 and recall; NaN without objects


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of two sets of results, 0..1, NaN where there is nothing to compute it from.

    interval: the 95% interval of `b` less `a`, None without draws, and where less than `FEWEST_IMAGES` images have an
              object that the score is of
    better:   the share of the draws in which `b` is better, of equal ones half; NaN where there is no interval
    """

    a: float
    b: float
    interval: tuple[float, float] | None
    better: float

    @property
    def value(self) -> float:
        """How much better `b` is."""
        return self.b - self.a

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for what is undefined."""
        numbers = {"a": self.a, "b": self.b, "difference": self.value, "b_better_in": self.better}
        plain = {key: float(value) if np.isfinite(value) else None for key, value in numbers.items()}
        return {**plain, "interval": self.interval, "beyond_chance": self.beyond_chance}


@dataclass(frozen=True, slots=True)
class Paired:
    """The differences of scores by their names, of APs of each class, and of each bin of sizes."""

    scores: Mapping[str, Difference]
    classes: Mapping[str, Difference]
    sizes: Mapping[str, Difference]
    num_images: int
    num_samples: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        groups = {"scores": self.scores, "classes": self.classes, "sizes": self.sizes}
        return {"num_images": self.num_images, "num_samples": self.num_samples} | {
            key: {name: one.to_json() for name, one in group.items()} for key, group in groups.items()
        }


def paired(a: Overlaps, b: Overlaps, categories: Categories, *, num_samples: int = 1000, seed: int = 0) -> Paired:
    """Compare the results of which `a` and `b` are the overlaps, of one kind and with one data set.

    Scores are COCO's, by LVIS's rules where the data set is federated: AP, AP50, AP75, by size, by frequency where
    classes have one, and AR, the mean recall. Raises `InputError` for overlaps of other kinds or images.
    """
    if a.kind != b.kind or not np.array_equal(a.image_ids, b.image_ids):
        raise InputError("b: expected results of the kind and images of a; got others")
    times = np.ones((1 + num_samples, len(a.image_ids)), dtype=np.int64)  # as they are, then drawn
    if len(a.image_ids):
        times[1:] = draws(len(a.image_ids), num_samples=num_samples, seed=seed)
    everything = np.ones(len(categories), dtype=np.bool_)
    scores, classes = {}, {}
    for size, name in zip(SIZES, ("AP", "APs", "APm", "APl"), strict=True):
        both = [_samples(one, len(categories), SIZES[size], times) for one in (a, b)]
        there = _images_with(a, len(categories), SIZES[size])
        scores[name] = _difference(both, there, everything, _AP)
        if size == "all":
            for of, column in (("AP50", _AP50), ("AP75", _AP75), ("AR", _AR)):
                scores[of] = _difference(both, there, everything, column)
            for group, letter in FREQUENCIES.items() if categories.frequency else ():
                scores[group] = _difference(both, there, np.array(categories.frequency) == letter, _AP)
            for label, of in enumerate(categories.names):
                classes[of] = _difference(both, there, np.arange(len(categories)) == label, _AP)
    sizes = {}
    for name, areas in zip(bin_names(EDGES_PX), size_ranges(EDGES_PX), strict=True):
        both = [_samples(one, len(categories), areas, times) for one in (a, b)]
        sizes[name] = _difference(both, _images_with(a, len(categories), areas), everything, _AP)
    order = ("AP", "AP50", "AP75", "APs", "APm", "APl", *FREQUENCIES, "AR")
    return Paired(
        {name: scores[name] for name in order if name in scores}, classes, sizes, len(a.image_ids), num_samples
    )


def _difference(
    both: list[Samples], there: tuple[NDArray[np.int64], NDArray[np.int64]], classes: NDArray[np.bool_], column: int
) -> Difference:
    """Of the mean of some classes (K,); `there` is what `_images_with` answers."""
    first, second = (class_means(samples[:, classes, column]) for samples in both)
    images, labels = there
    few = len(np.unique(images[classes[labels]])) < FEWEST_IMAGES
    drawn = (second - first)[1:]
    drawn = drawn[np.isfinite(drawn) & (not few)]
    better = float(np.mean((drawn > 0) + 0.5 * (drawn == 0))) if len(drawn) else float("nan")
    return Difference(float(first[0]), float(second[0]), percentile_interval(drawn), better)


def _images_with(
    overlaps: Overlaps, num_classes: int, size: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of image and class, two arrays (Q,), with an object of that size."""
    counts = ~overlaps.crowd & inside(overlaps.object_areas, size)
    found = np.unique(overlaps.object_images[counts] * num_classes + overlaps.object_labels[counts])
    return found // max(num_classes, 1), found % max(num_classes, 1)


def _samples(overlaps: Overlaps, num_classes: int, size: tuple[float, float], times: NDArray[np.int64]) -> Samples:
    ignored = ~inside(overlaps.object_areas, size)
    matched = match(overlaps, roles_by_class(overlaps, ignored), size=size)
    keep = np.arange(len(overlaps.rows))
    if overlaps.max_instances is not None:
        keep = keep[ranks(overlaps) < overlaps.max_instances]
    keep = keep[matched.counted[:, keep].any(axis=0)]  # of a range of sizes, most do not
    order = keep[np.lexsort((-overlaps.scores[keep], overlaps.labels[keep]))]
    starts = np.searchsorted(overlaps.labels[order], np.arange(num_classes + 1))
    counts = ~overlaps.crowd & ~ignored
    return np.asarray(
        _scores(
            np.ascontiguousarray(matched.hits[:, order]),
            np.ascontiguousarray(matched.counted[:, order]),
            overlaps.images[order],
            starts,
            overlaps.object_labels[counts].astype(np.int64),
            overlaps.object_images[counts],
            times,
            THRESHOLDS,
            RECALLS,
        )
    )


@njit(cache=True)
def _scores(hits, counted, images, starts, object_labels, object_images, times, thresholds, recalls):  # type: ignore[no-untyped-def]
    """AP, AP50, AP75 and recall (S, K, 4) of detections (T, N) that lie class by class, each class's best first.

    An image that is drawn n times counts n times; its copies follow each other, which leaves the curve as it would be.
    """
    num_classes = len(starts) - 1
    result = np.zeros((len(times), num_classes, 4))
    recall, best = np.empty(len(images) + 1), np.empty(len(images) + 1)
    for s in range(len(times)):
        positives = np.zeros(num_classes, dtype=np.int64)
        for g in range(len(object_labels)):
            positives[object_labels[g]] += times[s, object_images[g]]
        for k in range(num_classes):
            if positives[k] == 0:
                result[s, k] = np.nan
                continue
            for t in range(len(thresholds)):
                true, false, count = 0, 0, 0
                for i in range(starts[k], starts[k + 1]):
                    often = times[s, images[i]]
                    if often == 0 or not counted[t, i]:
                        continue
                    if hits[t, i]:
                        true += often
                    else:
                        false += often
                    recall[count], best[count] = true / positives[k], true / (true + false + _SMALLEST)
                    count += 1
                for i in range(count - 1, 0, -1):
                    best[i - 1] = max(best[i - 1], best[i])
                total, i = 0.0, 0
                for r in range(len(recalls)):
                    while i < count and recall[i] < recalls[r]:
                        i += 1
                    if i == count:
                        break
                    total += best[i]
                area = total / len(recalls)
                result[s, k, 0] += area / len(thresholds)
                if t == 0:
                    result[s, k, 1] = area
                if t == 5:
                    result[s, k, 2] = area
                result[s, k, 3] += true / positives[k] / len(thresholds)
    return result
