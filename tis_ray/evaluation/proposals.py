"""How many of an image's objects its best boxes find, whatever their classes: the recall of proposals, by size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.comparison import Result
from tis_ray.evaluation.greedy import SIZES, THRESHOLDS, inside, match, ranks, roles_of_any
from tis_ray.evaluation.overlaps import overlaps
from tis_ray.evaluation.size_bins import EDGES_PX, bin_names, size_ranges
from tis_ray.formats.dataset import GroundTruth

MAX_PROPOSALS = (100, 300, 1000)


@dataclass(frozen=True, slots=True, eq=False)
class ProposalRecall:
    """The recall of boxes without regard to classes.

    max_proposals: so many of an image count, the best by score, for each of the P rows
    sizes:   names of the S ranges of object sizes
    counts:  int64 (S,) objects
    recall:  float64 (P, S) the share that is found, the mean over the overlaps 0.50:0.95 (AR); NaN without objects
    recall50: float64 (P, S) the share at an overlap of 0.5
    """

    num_images: int
    max_proposals: tuple[int, ...]
    sizes: tuple[str, ...]
    counts: NDArray[np.int64]
    recall: NDArray[np.float64]
    recall50: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Figures by size and number; None for what is undefined."""
        return {
            "metric": "proposals",
            "num_images": self.num_images,
            "sizes": {
                name: {"objects": int(self.counts[j])}
                | {f"AR{most}": _number(self.recall[i, j]) for i, most in enumerate(self.max_proposals)}
                | {f"recall50@{most}": _number(self.recall50[i, j]) for i, most in enumerate(self.max_proposals)}
                for j, name in enumerate(self.sizes)
            },
        }


def all_sizes(edges_px: Sequence[float] = EDGES_PX) -> dict[str, tuple[float, float]]:
    """COCO's ranges of sizes and those of `size_bins`, in px of area, by their names."""
    return {**SIZES, **dict(zip(bin_names(edges_px), size_ranges(edges_px), strict=True))}


def proposal_recall(
    dataset: GroundTruth,
    results: Sequence[Result],
    *,
    max_proposals: Sequence[int] = MAX_PROPOSALS,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> ProposalRecall:
    """The recall of the boxes of COCO results, matched as COCO does with `useCats=0`.

    sizes: names and ranges of the annotated areas in px, both ends included; by default `all_sizes()`

    Crowds and regions to ignore are no objects. Which classes were looked for (LVIS) makes no difference: what is found
    beyond the objects is never wrong.
    """
    sizes = all_sizes() if sizes is None else sizes
    pairs = overlaps(dataset, results, kind="bbox", metric="coco")
    places = ranks(pairs, by_class=False)
    within = np.array([places < most for most in max_proposals])  # (P, N)
    counts, recall = [], []
    for size in sizes.values():
        ignored = ~inside(pairs.object_areas, size)
        counts.append(np.count_nonzero(~ignored & ~pairs.crowd))
        hits = match(pairs, roles_of_any(pairs, ignored), thresholds=THRESHOLDS).hits
        recall.append((within @ hits.T.astype(np.int64)) / (counts[-1] or np.nan))  # (P, T)
    by_threshold = np.stack(recall, axis=1)  # (P, S, T)
    return ProposalRecall(
        len(dataset),
        tuple(max_proposals),
        tuple(sizes),
        np.array(counts, dtype=np.int64),
        by_threshold.mean(axis=2),
        by_threshold[..., 0],
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
