"""Average precision and recall of objects by how large they are, in finer steps than COCO's."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.greedy import inside, match, positives_of, precision_curves, roles_by_class
from tis_ray.evaluation.overlaps import Overlaps
from tis_ray.instances import Categories

EDGES_PX = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True, eq=False)
class SizeBins:
    """B bins of sizes: below the first edge, from each edge to the next, from the last one on.

    A size is the root of an object's annotated area, of what was found the root of its own.

    counts:          int64 (B,) objects
    ap, ap50:        float64 (B,) COCO's AP (over 0.50:0.95, and at 0.5), the mean of the classes with such objects
    recall, recall50: float64 (B,) share of the objects, all classes together, that are found, likewise; NaN without any
    """

    edges_px: tuple[float, ...]
    counts: NDArray[np.int64]
    ap: NDArray[np.float64]
    ap50: NDArray[np.float64]
    recall: NDArray[np.float64]
    recall50: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """Of the bins: `<8`, `8-16`, ... `>=256`."""
        return bin_names(self.edges_px)

    def to_json(self) -> list[dict[str, Any]]:
        """One entry for each bin; None for what is undefined."""
        columns = {"AP": self.ap, "AP50": self.ap50, "recall": self.recall, "recall50": self.recall50}
        return [
            {"size_px": name, "objects": int(self.counts[i])}
            | {key: None if np.isnan(values[i]) else float(values[i]) for key, values in columns.items()}
            for i, name in enumerate(self.names)
        ]


def bin_names(edges_px: Sequence[float]) -> list[str]:
    """The names of the bins between rising edges: `<8`, `8-16`, ... `>=256`."""
    edges = [f"{edge:g}" for edge in edges_px]
    return [f"<{edges[0]}", *(f"{low}-{high}" for low, high in pairwise(edges)), f">={edges[-1]}"]


def size_ranges(edges_px: Sequence[float]) -> list[tuple[float, float]]:
    """The ranges of areas of the bins between rising `edges_px`, both ends included; no area is in two."""
    areas = [edge * edge for edge in edges_px]
    return [(low, float(np.nextafter(high, 0))) for low, high in pairwise([0, *areas, np.inf])]


def size_bins(overlaps: Overlaps, categories: Categories, *, edges_px: Sequence[float] = EDGES_PX) -> SizeBins:
    """Each bin scored as COCO scores a range of sizes: what is found of another size and wrong does not count."""
    columns = []
    for size in size_ranges(edges_px):
        ignored = ~inside(overlaps.object_areas, size)
        positives = positives_of(overlaps, ignored, len(categories))
        matched = match(overlaps, roles_by_class(overlaps, ignored), size=size)
        precision = precision_curves(overlaps, matched, positives)[..., positives > 0]
        count = int(positives.sum())
        if count == 0:
            columns.append((0, *[np.nan] * 4))
            continue
        recalls = matched.hits.sum(axis=1) / count
        columns.append((count, precision.mean(), precision[0].mean(), recalls.mean(), recalls[0]))
    counts, *others = np.array(columns, dtype=np.float64).T
    return SizeBins(tuple(edges_px), counts.astype(np.int64), *others)
