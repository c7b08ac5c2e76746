"""LVIS's results JSON: COCO's, with at most 300 instances of an image, which is what its metric looks at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tis_ray.formats.coco_results import SCORE_DECIMALS, ResultsWriter, to_results
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances

SUFFIX = ".lvis.json"
MAX_PER_IMAGE = 300


@contextmanager
def open_writer(path: Path) -> Iterator[Callable[..., int]]:
    """The best instances of each image by the score as it is written, the first of equal ones; in their order."""
    with ResultsWriter(path) as writer:

        def write(instances: Instances, *, image: ListedImage, categories: Categories, size_hw: tuple[int, int]) -> int:
            scores = np.round(instances.scores.astype(np.float64), SCORE_DECIMALS)
            best = np.sort(np.argsort(-scores, kind="stable")[:MAX_PER_IMAGE])
            results = to_results(instances[best], image_id=image.id, categories=categories, size_hw=size_hw)
            writer.write(results)
            return len(results)

        yield write
