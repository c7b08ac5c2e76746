"""Which image of a data set an image of a batch run is."""

from collections.abc import Sequence
from pathlib import PurePath

from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.image_list import ListedImage
from tis_ray.runs.records import ImageOutcome


class Join:
    """Called with one of the `images` of a run, the record of its name, or None.

    Names are compared with as many of their folders as both have. Of several records that fit it is the one with the
    image's id, else the one of exactly its name. Where none fits, the only one with the same last part does, whatever
    the folders, unless another image has it. Raises `DataError` where two images would be the same record, and where
    the data set says that an image has another size.
    """

    def __init__(self, dataset: GroundTruth, images: Sequence[ListedImage]) -> None:
        self._by_name: dict[str, list[ImageRecord]] = {}
        for record in dataset.images:
            self._by_name.setdefault(PurePath(record.file_name).name, []).append(record)
        self._records: dict[int, ImageRecord] = {}
        self._taken: dict[int, str] = {}
        others = [image for image in images if not self._take(image, self._fitting(image))]
        free = {
            name: some for name, some in self._by_name.items() if not (len(some) == 1 and some[0].id in self._taken)
        }
        for image in others:
            named = free.get(PurePath(image.file_name).name, [])
            self._take(image, named[0] if len(named) == 1 else None)

    def __call__(self, outcome: ImageOutcome) -> ImageRecord | None:
        record = self._records.get(outcome.image_id)
        if record is not None and outcome.size_hw not in ((0, 0), (record.height, record.width)):
            raise DataError(
                f"--ground-truth: expected image {record.id} ({record.file_name}) to be {outcome.size_hw} (height, "
                f"width), as the run saw it; got {(record.height, record.width)}"
            )
        return record

    def _fitting(self, image: ListedImage) -> ImageRecord | None:
        named = self._by_name.get(PurePath(image.file_name).name, [])
        fitting = [record for record in named if _fit(record.file_name, image.file_name)]
        own = [record for record in fitting if record.id == image.id]
        exact = [record for record in fitting if record.file_name == image.file_name]
        return next((some[0] for some in (own, exact, fitting) if len(some) == 1), None)

    def _take(self, image: ListedImage, record: ImageRecord | None) -> bool:
        if record is None:
            return False
        if record.id in self._taken:
            raise DataError(
                f"--ground-truth: expected one image of the run for image {record.id} ({record.file_name}); got "
                f"{self._taken[record.id]} and {image.file_name}"
            )
        self._taken[record.id] = image.file_name
        self._records[image.id] = record
        return True


def _fit(first: str, second: str) -> bool:
    """Whether two names are the same as far as both say in which folders they lie."""
    pairs = zip(reversed(PurePath(first).parts), reversed(PurePath(second).parts), strict=False)
    return all(one == other for one, other in pairs)
