"""COCO's results JSON."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tis_ray.formats.coco_results import ResultsWriter, to_results
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances

SUFFIX = ".json"


@contextmanager
def open_writer(path: Path) -> Iterator[Callable[..., int]]:
    """Results by image id and category id, boxes and compressed RLEs."""
    with ResultsWriter(path) as writer:

        def write(instances: Instances, *, image: ListedImage, categories: Categories, size_hw: tuple[int, int]) -> int:
            results = to_results(instances, image_id=image.id, categories=categories, size_hw=size_hw)
            writer.write(results)
            return len(results)

        yield write
