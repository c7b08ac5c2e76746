"""A COCO data set of what was found, which annotation tools import: images, categories and annotations in one JSON.

Masks are polygons along the edges of pixels, exact to the pixel, holes and parts of one pixel included: the one
spelling that every importer reads. Label Studio's knows no RLE, others take one for a crowd or leave it out. Where
there is a mask the box is the mask's own, as in COCO's data sets; FiftyOne cuts masks to their boxes. `score` becomes
an attribute in CVAT and the confidence in FiftyOne. An instance without a mask, or with an empty one, has an empty
`segmentation`, which CVAT takes for a rectangle.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import orjson

from tis_ray import whole_files
from tis_ray.errors import DataError
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances
from tis_ray.ops import boxes as box_ops
from tis_ray.ops import polygons, run_algebra
from tis_ray.ops.runs import Runs

SUFFIX = ".annotations.json"
_SUPERCATEGORY = "object"  # some importers ask for one


@contextmanager
def open_writer(path: Path) -> Iterator[Callable[..., int]]:
    """Images in their order, those in which nothing was found too; annotations numbered from 1, none a crowd.

    Boxes are cut to their images; what lies outside is left out. Category ids rise by one where they begin at 0, which
    CVAT takes for no class. The file's annotations wait in a nameless one beside it.
    """
    with whole_files.replacing(path) as partial, ExitStack() as stack:
        try:
            images = stack.enter_context(partial.open("wb"))
            annotations = stack.enter_context(TemporaryFile(dir=path.parent, prefix=".tis-ray-"))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from None
        content = _Content(images, annotations)
        yield content.write
        content.end()


class _Content:
    def __init__(self, images: IO[bytes], annotations: IO[bytes]) -> None:
        self._images, self._annotations = images, annotations
        self._num_images = self._num_annotations = 0
        self._categories: Categories | None = None
        images.write(b'{"images": [')

    def write(
        self, instances: Instances, *, image: ListedImage, categories: Categories, size_hw: tuple[int, int]
    ) -> int:
        self._categories = categories = _from_one(categories)
        height, width = size_hw
        entry = {"id": image.id, "file_name": image.file_name, "height": height, "width": width}
        self._images.write((b",\n" if self._num_images else b"\n") + orjson.dumps(entry))
        self._num_images += 1
        found = _annotations(instances, image.id, categories, size_hw)
        for annotation in found:
            before = b",\n" if self._num_annotations else b"\n"
            self._num_annotations += 1
            self._annotations.write(before + orjson.dumps({"id": self._num_annotations, **annotation}))
        return len(found)

    def end(self) -> None:
        categories = [] if self._categories is None else self._categories.to_json()
        listed = [
            {"id": one["id"], "name": one["name"], "supercategory": one.get("supercategory") or _SUPERCATEGORY}
            for one in categories
        ]
        self._images.write(b'\n],\n"categories": ' + orjson.dumps(listed) + b',\n"annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._images)
        self._images.write(b"\n]}\n")


def _from_one(categories: Categories) -> Categories:
    if 0 not in categories.ids:
        return categories
    return Categories(tuple(id_ + 1 for id_ in categories.ids), categories.names, categories.supercategories)


def _annotations(
    instances: Instances, image_id: int, categories: Categories, size_hw: tuple[int, int]
) -> list[dict[str, Any]]:
    runs = Runs.empty(*size_hw, count=len(instances))
    if instances.masks is not None:
        runs = instances.masks.to_runs(*size_hw)
    pixels = run_algebra.areas(runs)
    boxes = np.where(pixels[:, None] > 0, run_algebra.bounds(runs), box_ops.clip(instances.boxes, *size_hw))
    areas = np.where(pixels > 0, pixels, box_ops.area(boxes))
    boxed = Instances(boxes.astype(np.float32), instances.scores, instances.labels, None, instances.source)
    found = to_results(boxed, image_id=image_id, categories=categories, size_hw=size_hw, masks=False)
    outlines = polygons.from_runs(runs)
    return [
        {**one, "area": round(area, 3), "iscrowd": 0, "segmentation": outline}
        for one, area, outline in zip(found, areas.tolist(), outlines, strict=True)
        if area > 0 and min(one["bbox"][2:]) > 0
    ]
