"""What of the results counts where nobody looked for every class in every image: the rules of LVIS (Gupta et al. 2019).

The strongest of an image count, whatever their classes. Of these, what is of a class that is neither annotated nor said
to be absent is as if it had not been found, and what is too much of one not exhaustively annotated is not wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.formats.dataset import GroundTruth

MAX_INSTANCES = 300

Result = Mapping[str, Any]


def counted(
    dataset: GroundTruth, truth: Sequence[Result], results: Sequence[Result], scores: Sequence[float]
) -> NDArray[np.bool_]:
    """Which of N `results` count, bool (N,).

    truth:  annotations, of which `image_id` and `category_id` are read
    scores: (N,) what results are ranked by; of two with the same score the earlier one is stronger
    """
    verified = _verified(dataset, truth)
    among = strongest([result["image_id"] for result in results], scores, most=MAX_INSTANCES)
    for i in np.flatnonzero(among).tolist():
        classes = verified[results[i]["image_id"]]
        among[i] = classes is None or results[i]["category_id"] in classes
    return among


def strongest(image_ids: Sequence[int], scores: Sequence[float], *, most: int) -> NDArray[np.bool_]:
    """Bool (N,): the `most` results of each image with the largest scores."""
    images, strength = np.asarray(image_ids, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    order = np.lexsort((-strength, images))  # stable
    _, first, times = np.unique(images[order], return_index=True, return_counts=True)
    chosen = np.zeros(len(images), dtype=np.bool_)
    chosen[order] = np.arange(len(images)) - np.repeat(first, times) < most
    return chosen


def not_exhaustive(dataset: GroundTruth) -> dict[int, frozenset[int]]:
    """For each image the category ids of which perhaps not every object is annotated."""
    return {
        record.id: frozenset(() if record.federated is None else record.federated.not_exhaustive)
        for record in dataset.images
    }


def _verified(dataset: GroundTruth, truth: Sequence[Result]) -> dict[int, set[int] | None]:
    """For each image the ids of the classes that count in it; None for all."""
    verified = {
        record.id: None if record.federated is None else set(record.federated.absent) for record in dataset.images
    }
    for one in truth:
        classes = verified[one["image_id"]]
        if classes is not None:
            classes.add(one["category_id"])
    return verified
