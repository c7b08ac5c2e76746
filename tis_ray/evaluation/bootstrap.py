"""How much an average precision depends on the images that happened to be in the data set.

Images are drawn with replacement as often as the set has images, and AP is computed again for each draw. The
matching of predictions to ground truth is done once: a draw only repeats or drops whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """The predictions of one class over all images, best score first, ties in the order of the images.

    found:     bool (T, N) a true positive at each of T overlap thresholds
    ignored:   bool (T, N) neither true nor false: on a crowd region
    image:     int64 (N,) index of the image
    positives: int64 (I,) objects to be found in each image
    """

    found: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    image: NDArray[np.int64]
    positives: NDArray[np.int64]


def class_matches(images: Sequence[Any], num_thresholds: int) -> ClassMatches:
    """From COCOeval's `evalImgs` entries of one class, one for each image, None where it has nothing."""
    present = [(i, entry) for i, entry in enumerate(images) if entry is not None]
    positives = np.zeros(len(images), dtype=np.int64)
    for i, entry in present:
        positives[i] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    none = np.zeros((num_thresholds, 0))
    scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for _, entry in present)])
    matched = np.concatenate([none, *(entry["dtMatches"] for _, entry in present)], axis=1) != 0
    ignored = np.concatenate([none, *(entry["dtIgnore"] for _, entry in present)], axis=1) != 0
    image = np.repeat(
        np.array([i for i, _ in present], dtype=np.int64), [len(entry["dtScores"]) for _, entry in present]
    )
    order = np.argsort(-scores, kind="stable")
    return ClassMatches((matched & ~ignored)[:, order], ignored[:, order], image[order], positives)


def average_precision(matches: ClassMatches, times: NDArray[np.int64]) -> float:
    """COCO's AP of one class where image i is present `times[i]` times; NaN where nothing is to be found."""
    positives = int(matches.positives @ times)
    if positives == 0:
        return float("nan")
    drawn = np.repeat(np.arange(len(matches.image)), times[matches.image])
    found, ignored = matches.found[:, drawn], matches.ignored[:, drawn]
    true = np.cumsum(found, axis=1, dtype=np.float64)
    false = np.cumsum(~found & ~ignored, axis=1, dtype=np.float64)
    precision = true / (true + false + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([best_from_here, np.zeros((len(found), 1))], axis=1)
    reached = np.stack([np.searchsorted(row, RECALLS, side="left") for row in true / positives])
    return float(np.take_along_axis(padded, reached, axis=1).mean())


def draws(num_images: int, *, num_samples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is drawn in each sample, (num_samples, num_images); the same for the same arguments."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_samples)


def class_samples(classes: Sequence[ClassMatches], times: NDArray[np.int64]) -> NDArray[np.float64]:
    """AP of each class for each draw in `times` (S, I): (S, K), NaN where none of the class is drawn."""
    scores = np.array([[average_precision(matches, row) for matches in classes] for row in times], dtype=np.float64)
    return scores.reshape(len(times), len(classes))


def class_means(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean (S,) of (S, K) over the classes that are not NaN; NaN where all are."""
    counted = np.isfinite(samples)
    sums = np.where(counted, samples, 0).sum(axis=1)
    return np.where(counted.any(axis=1), sums / np.maximum(counted.sum(axis=1), 1), np.nan)


def percentile_interval(samples: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float] | None:
    """The interval that holds the middle `level` of the finite samples; None without any."""
    finite = samples[np.isfinite(samples)]
    if len(finite) == 0:
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
