"""The kept views of a run beside their ground truth, in memory, to be fused and scored many times."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import DataError
from tis_ray.formats import segmentation
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.instances import Annotations, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder
from tis_ray.runs.joining import Join
from tis_ray.views import SizeHW, View


@dataclass(frozen=True, slots=True, eq=False)
class KeptImage:
    """What each view found in one image of the ground truth, whose id it has; nothing where the image failed."""

    image_id: int
    size_hw: SizeHW
    found: Mapping[View, Instances]


class SomeImages:
    """Ground truth of some images of a data set: a `GroundTruth` whose masks are decoded to RLE once."""

    in_memory = True

    def __init__(self, dataset: GroundTruth, image_ids: Collection[int]) -> None:
        chosen = set(image_ids)
        self._dataset = dataset
        self.path, self.categories, self.unscored = dataset.path, dataset.categories, dataset.unscored
        self.images: Sequence[ImageRecord] = tuple(record for record in dataset.images if record.id in chosen)
        self._entries = {
            record.id: [_packed(one, record) for one in dataset.entries(record.id)] for record in self.images
        }

    def __len__(self) -> int:
        return len(self.images)

    def image(self, image_id: int) -> ImageRecord:
        """As `GroundTruth.image`."""
        return self._dataset.image(image_id)

    def annotations(self, image_id: int) -> Annotations:
        """As `GroundTruth.annotations`."""
        return self._dataset.annotations(image_id)

    def entries(self, image_id: int) -> Sequence[Mapping[str, Any]]:
        """As `GroundTruth.entries`."""
        return self._entries[image_id]

    def among(self, image_ids: Collection[int]) -> "SomeImages":
        """Those of them that are listed, nothing decoded again."""
        chosen = set(image_ids)
        fewer = object.__new__(SomeImages)
        fewer._dataset = self._dataset
        fewer.path, fewer.categories, fewer.unscored = self.path, self.categories, self.unscored
        fewer.images = tuple(record for record in self.images if record.id in chosen)
        fewer._entries = {record.id: self._entries[record.id] for record in fewer.images}
        return fewer


def load(run: RunFolder, dataset: GroundTruth, *, masks: bool) -> list[KeptImage]:
    """The images of the run that the data set has, in the run's order; without `masks` boxes alone.

    Patches lie in a nameless file in the run's folder, mapped into memory: they may be gigabytes. Raises `ConfigError`
    for a run without kept views, and `DataError` where the two share no image and where an image has another size in
    the ground truth.
    """
    held: list[tuple[ImageRecord, dict[View, _Held]]] = []
    join = Join(dataset, run.images)
    with tempfile.TemporaryFile(dir=run.path) as file:
        for outcome, kept in run.outcomes_with_views():
            record = join(outcome)
            if record is not None:
                held.append((record, {view: _without(one, file, masks=masks) for view, one in kept.found.items()}))
        file.flush()
        patches = np.memmap(file, np.float16, "r") if file.tell() else np.zeros(0, np.float16)
    if not held:
        raise DataError(f"--ground-truth: expected images of the run {run.path}; {dataset.path} has none of them")
    return [
        KeptImage(record.id, (record.height, record.width), {view: _with(one, patches) for view, one in views.items()})
        for record, views in held
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Instances whose patches, `size` numbers wide, lie in a file from its number `start` on."""

    instances: Instances
    masks: BoxMasks | None
    start: int = 0
    size: int = 0


def _without(instances: Instances, file: IO[bytes], *, masks: bool) -> _Held:
    if not masks or not isinstance(instances.masks, BoxMasks):
        return _Held(instances.without_masks(), None)
    own = instances.masks
    start = file.tell() // 2
    file.write(own.probabilities.tobytes())
    bare = replace(own, probabilities=np.zeros((len(own), 0, 0), np.float16))
    return _Held(instances.without_masks(), bare, start, own.size)


def _with(held: _Held, patches: NDArray[np.float16]) -> Instances:
    if held.masks is None:
        return held.instances
    count = len(held.masks) * held.size**2
    own = np.asarray(patches[held.start : held.start + count]).reshape(-1, held.size, held.size)
    return replace(held.instances, masks=replace(held.masks, probabilities=own))


def _packed(entry: Mapping[str, Any], record: ImageRecord) -> Mapping[str, Any]:
    """The entry with its mask as a compressed RLE."""
    rle = segmentation.to_rle(entry.get("segmentation"), entry["bbox"], record.height, record.width)
    return {**entry, "segmentation": rle}
