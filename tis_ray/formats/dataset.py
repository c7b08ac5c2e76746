"""What training and evaluation ask of a data set, whatever its format: images, classes and ground truth."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tis_ray.instances import Annotations, Categories


@dataclass(frozen=True, slots=True)
class Federated:
    """Of which classes somebody looked for every object of an image, where that was not done for all of them (LVIS).

    absent:         category ids of which the image has no object
    not_exhaustive: category ids of which perhaps not every object is annotated

    Nobody looked for a class that is neither annotated nor absent.
    """

    absent: tuple[int, ...]
    not_exhaustive: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a data set: `path` is where its file should be, `height` and `width` are in pixels.

    `federated` is None where every object of every class is annotated.
    """

    id: int
    file_name: str
    path: Path
    height: int
    width: int
    federated: Federated | None = None


class GroundTruth(Protocol):
    """A data set that was opened. `len()` is its number of images.

    path:       the file or folder that messages name
    images:     ImageRecords sorted by id
    categories: the classes in the order of their ids
    unscored:   ids of further classes that results may name and that do not count either way
    in_memory:  whether `entries` are at hand; else a file is opened for each image
    """

    @property
    def path(self) -> Path: ...

    @property
    def images(self) -> Sequence[ImageRecord]: ...

    @property
    def categories(self) -> Categories: ...

    @property
    def unscored(self) -> Collection[int]: ...

    @property
    def in_memory(self) -> bool: ...

    def __len__(self) -> int: ...

    def image(self, image_id: int) -> ImageRecord:
        """The record of one image; `DataError` for an id that the data set does not have."""
        ...

    def annotations(self, image_id: int) -> Annotations:
        """Ground truth of one image in its own frame, masks decoded now."""
        ...

    def entries(self, image_id: int) -> Sequence[Mapping[str, Any]]:
        """The same in COCO's form: id, image_id, category_id, bbox, and where known area, iscrowd, segmentation.

        A region to ignore for every class has one entry for each class, all of one id.
        """
        ...


def is_federated(truth: GroundTruth) -> bool:
    """Whether any image of a data set says which classes were looked for."""
    return any(record.federated is not None for record in truth.images)
