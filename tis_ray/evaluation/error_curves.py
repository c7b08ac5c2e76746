"""What keeps precision from one: COCO's error analysis, seven curves of which each forgives one more kind of error.

C75  an overlap of 0.75 is asked for
C50  an overlap of 0.5
Loc  an overlap of 0.1: what is found in about the right place
Sim  and what lies on an object of another class of the same supercategory is neither right nor wrong
Oth  and what lies on an object of any other class
BG   and all that is still wrong is left out: precision 1 as far as the recall goes
FN   and nothing is missed: 1 everywhere

The number of a curve is its mean precision, the area below it; from one curve to the next the difference is what the
errors of a kind cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.evaluation.greedy import (
    REGION,
    SIZES,
    inside,
    match,
    positives_of,
    precision_curves,
    roles_by_class,
)
from tis_ray.evaluation.overlaps import LEAST, Overlaps
from tis_ray.instances import Categories

CURVES = ("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCurves:
    """The seven curves of each class and size.

    precision:  float64 (7, 101, K, S) in the order of `CURVES`, at `RECALLS`; NaN where a class has no object of a size
    counts:     int64 (K, S) the objects to be found
    sizes:      names of the S ranges of sizes
    """

    precision: NDArray[np.float64]
    counts: NDArray[np.int64]
    sizes: tuple[str, ...]
    categories: Categories

    def curves(self, classes: Sequence[int] | None = None, *, size: str = "all") -> NDArray[np.float64]:
        """The mean curves (7, 101) of some classes, by label, or of all; NaN where none has an object of that size."""
        return _mean(self.precision[..., self._size(size)], range(len(self.categories)) if classes is None else classes)

    def numbers(self, classes: Sequence[int] | None = None, *, size: str = "all") -> dict[str, float]:
        """The mean precision of each curve of `CURVES`, NaN likewise."""
        return dict(zip(CURVES, self.curves(classes, size=size).mean(axis=1).tolist(), strict=True))

    def supercategories(self) -> dict[str, list[int]]:
        """The labels of each supercategory, in the order of their first classes; nothing where there are none."""
        groups: dict[str, list[int]] = {}
        for label, name in enumerate(self.categories.supercategories):
            groups.setdefault(name, []).append(label)
        return groups

    def to_json(self) -> dict[str, Any]:
        """The numbers of all classes, of each supercategory and of each class, by size; None where there are none."""
        groups = {
            "all": {"all": list(range(len(self.categories)))},
            "supercategories": self.supercategories(),
            "classes": {name: [label] for label, name in enumerate(self.categories.names)},
        }
        found = {key: {name: self._by_size(labels) for name, labels in group.items()} for key, group in groups.items()}
        return {"curves": list(CURVES), **found, "all": found["all"]["all"]}

    def _by_size(self, labels: Sequence[int]) -> dict[str, dict[str, float | None]]:
        return {
            size: {name: None if np.isnan(value) else value for name, value in self.numbers(labels, size=size).items()}
            for size in self.sizes
        }

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            raise InputError(f"size: expected one of {', '.join(self.sizes)}; got {name!r}")
        return self.sizes.index(name)


def error_curves(
    overlaps: Overlaps, categories: Categories, *, sizes: Mapping[str, tuple[float, float]] = SIZES
) -> ErrorCurves:
    """The curves of what was found (see `overlaps.overlaps`).

    sizes: names and ranges of areas in px, both ends included; what is found of another size and wrong does not count

    Without supercategories `Sim` equals `Loc`. Classes without objects are left out of means, not taken for zeros.
    """
    parts, counts = [], []
    first, second = overlaps.labels[overlaps.detections], overlaps.object_labels[overlaps.objects]
    groups = _supercategory_of(categories)
    for size in sizes.values():
        ignored = ~inside(overlaps.object_areas, size)
        positives = positives_of(overlaps, ignored, len(categories))
        roles = roles_by_class(overlaps, ignored)
        strict = match(overlaps, roles, thresholds=(0.75, 0.5, LEAST), size=size)
        found = [precision_curves(overlaps, strict, positives)]
        for forgiven in (groups[first] == groups[second], np.ones(len(first), dtype=np.bool_)):
            wider = np.where(forgiven & (first != second), REGION, roles).astype(np.int8)
            values = np.where(wider == REGION, overlaps.shares, overlaps.ious)
            matched = match(overlaps, wider, thresholds=(LEAST,), size=size, values=values)
            found.append(precision_curves(overlaps, matched, positives))
        without_false = np.where(np.isnan(found[-1]), np.nan, found[-1] > 0)
        found += [without_false, np.where(np.isnan(found[-1]), np.nan, 1.0)]
        parts.append(np.concatenate(found))
        counts.append(positives)
    return ErrorCurves(np.stack(parts, axis=-1), np.stack(counts, axis=-1), tuple(sizes), categories)


def _supercategory_of(categories: Categories) -> NDArray[np.int64]:
    """A number of each class's supercategory (K,); without any, each class is its own."""
    names = categories.supercategories or categories.names
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _mean(curves: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
    """Of curves (7, 101, K) those of some classes, without those that have no object."""
    chosen = curves[..., list(classes)]
    there = ~np.isnan(chosen[0, 0])
    if not there.any():
        return np.full(curves.shape[:2], np.nan)
    return np.asarray(chosen[..., there].mean(axis=-1))
