"""Labels by a teacher for images that nobody labelled, to be learnt from beside a training set (LVIS 2020)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import DataError
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.images import image_size
from tis_ray.instances import Categories
from tis_ray.ops import boxes as box_ops
from tis_ray.ops import rle as rle_ops

MIN_SCORE = 0.5


@dataclass(frozen=True, slots=True)
class Labelled:
    """A COCO training file's `content`, the folder that its file names are relative to, and what is in it.

    per_class:    how many annotations, by name
    without_mask: how many results were left out since they have no mask and others do
    """

    content: dict[str, Any]
    image_folder: Path
    per_class: Counter[str]
    without_mask: int

    @property
    def num_boxes(self) -> int:
        """Of all images."""
        return len(self.content["annotations"])

    @property
    def num_images(self) -> int:
        """With a box at least."""
        return len(self.content["images"])

    @property
    def has_masks(self) -> bool:
        """Whether the teacher segments."""
        return any("segmentation" in one for one in self.content["annotations"])


def listed_dataset(source: Path, images: Sequence[ListedImage], categories: Categories) -> CocoDataset:
    """A data set of images without labels, for results that name classes of `categories`.

    Sizes that a list does not have are read from the files. Raises `DataError` for a file that is no image.
    """
    records = []
    for image in images:
        height, width = image.size_hw or image_size(image.path)
        records.append(ImageRecord(image.id, image.file_name, image.path, height, width))
    return CocoDataset(source, records, categories, ())


def label_images(
    results: Iterable[Mapping[str, Any]], dataset: GroundTruth, *, min_score: float = MIN_SCORE
) -> Labelled:
    """The labels that `results` (checked, as `stream_results` gives them) are for the images of `dataset`.

    Boxes of a score of at least `min_score` and their masks become annotations, cut to their images, with their
    `score`; images without any are left out. Where some results have masks, one without, or with an empty one, is left
    out: there is nothing to learn of its shape. Raises `DataError` where nothing is left.
    """
    records = {record.id: record for record in dataset.images}
    names = dict(zip(dataset.categories.ids, dataset.categories.names, strict=True))
    entries = [entry for one in results if one["score"] >= min_score and (entry := _entry(one, records))]
    masked = [entry for entry in entries if "segmentation" in entry and entry["area"]]
    kept = masked or [entry for entry in entries if "segmentation" not in entry]
    if not kept:
        raise DataError(f"{dataset.path}: expected results of a score of at least {min_score:g} with an area; got none")
    kept.sort(key=lambda entry: entry["image_id"])
    shown = sorted({entry["image_id"] for entry in kept})
    content = {
        "images": [_image(records[id_]) for id_ in shown],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(kept, start=1)],
        "categories": dataset.categories.to_json(),
    }
    per_class = Counter(names[entry["category_id"]] for entry in kept)
    return Labelled(content, _folder(records[shown[0]]), per_class, len(entries) - len(kept))


def _entry(result: Mapping[str, Any], records: Mapping[int, ImageRecord]) -> dict[str, Any] | None:
    """An annotation without its id; None where the box has no area within the image."""
    record = records[result["image_id"]]
    xywh: Any = np.array([result["bbox"]], dtype=np.float64)
    xyxy = box_ops.clip(box_ops.xywh_to_xyxy(xywh).astype(np.float32), record.height, record.width)
    if not box_ops.area(xyxy)[0]:
        return None
    mask = result.get("segmentation")
    area = float(box_ops.area(xyxy)[0]) if mask is None else float(rle_ops.areas([mask])[0])
    entry = {
        "image_id": record.id,
        "category_id": result["category_id"],
        "bbox": np.round(box_ops.xyxy_to_xywh(xyxy)[0].astype(np.float64), 3).tolist(),
        "area": area,
        "iscrowd": 0,
        "score": result["score"],
    }
    return entry if mask is None else {**entry, "segmentation": mask}


def _image(record: ImageRecord) -> dict[str, Any]:
    return {"id": record.id, "file_name": record.file_name, "width": record.width, "height": record.height}


def _folder(record: ImageRecord) -> Path:
    """What the file's name is relative to; of a name from the root on, where the file is."""
    name = Path(record.file_name)
    return record.path.parent if name.is_absolute() else record.path.parents[len(name.parts) - 1]
