"""The WAD 2018 data set: 16-bit label images whose pixels are class * 1000 + index, beside the pictures.

Training classes become objects; everything else is background, but for regions to ignore: 65535, which is what the
ids of groups (161 car_group to 168 tricycle_group) times 1000 become in 16 bits, and those ids themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tis_ray.errors import DataError
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.label_images import LabelMap, label_image_size, open_label_image
from tis_ray.formats.locations import place
from tis_ray.formats.wad_classes import EVALUATED, RIDER, WITH_RIDER
from tis_ray.instances import Annotations, Categories
from tis_ray.masks import CropMasks
from tis_ray.ops import boxes as box_ops
from tis_ray.ops import label_map

SUFFIX = "_instanceIds.png"
IGNORED = (65535, *range(161, 169))
ANY_CLASS = -1


class WadDataset:
    """Label images and pictures of the WAD 2018 data set. `len()` is its number of images.

    path:       the folder of label images
    images:     ImageRecords sorted by id; sizes are those of the label images
    categories: the seven evaluated classes, with `rider` eight
    unscored:   the id of riders where they are background: a member that was trained on them may have found some

    Label images are opened when their annotations are asked for.
    """

    __slots__ = ("_places", "categories", "images", "path")
    in_memory = False

    def __init__(self, path: Path, images: Sequence[ImageRecord], label_files: Sequence[Path], *, rider: bool) -> None:
        self.path = path
        self.images = tuple(images)
        self.categories = WITH_RIDER if rider else EVALUATED
        self._places = {
            record.id: (record, label_file) for record, label_file in zip(self.images, label_files, strict=True)
        }

    def __len__(self) -> int:
        return len(self.images)

    @property
    def unscored(self) -> tuple[int, ...]:
        """Ids that results may have and no class here."""
        return () if RIDER in self.categories.ids else (RIDER,)

    def image(self, image_id: int) -> ImageRecord:
        """The record of one image; `DataError` for an id that there is none of."""
        return self._place(image_id)[0]

    def annotations(self, image_id: int) -> Annotations:
        """Ground truth of one image, as `to_annotations` has it; `DataError` naming a broken label image."""
        return to_annotations(open_label_image(self._place(image_id)[1]), self.categories)

    def entries(self, image_id: int) -> list[Mapping[str, Any]]:
        """The annotations in COCO's form; a region to ignore is a crowd of each class, all entries of one id."""
        record, truth = self.image(image_id), self.annotations(image_id)
        bboxes = box_ops.xyxy_to_xywh(truth.boxes).tolist()
        areas = truth.masks.areas().tolist()
        entries: list[Mapping[str, Any]] = []
        for i, rle in enumerate(truth.masks.to_rle(record.height, record.width)):
            common = {"id": i + 1, "image_id": image_id, "bbox": bboxes[i], "area": areas[i], "segmentation": rle}
            ids = self.categories.ids if truth.crowd[i] else [self.categories.ids[truth.labels[i]]]
            entries += [common | {"category_id": id_, "iscrowd": int(truth.crowd[i])} for id_ in ids]
        return entries

    def _place(self, image_id: int) -> tuple[ImageRecord, Path]:
        if image_id not in self._places:
            raise DataError(f"{self.path}: expected an id of its {len(self)} images; got {image_id}")
        return self._places[image_id]


def read(
    labels: Path | str,
    images: Path | str | Sequence[ListedImage],
    *,
    frames: Sequence[Path | str] = (),
    rider: bool = False,
    on_broken: Callable[[DataError], None] | None = None,
) -> WadDataset:
    """Open a folder of label images `NAME_instanceIds.png` with their pictures.

    images: the folder of the pictures `NAME.jpg`, numbered from 1 by their names; or a list of pictures, whose ids and
            places the frames then have: those that it lacks are left out
    frames: lists of the data set's videos, one frame a line, to take those frames alone; by default all that are
            labelled. Folders in the lists and a second column are not looked at.
    rider:  take riders as a class rather than as background
    on_broken: called with what is wrong with the header of a label image, which is then left out; by default raised

    Headers of label images are read, pictures are not opened. Raises `DataError` for a folder without label images, a
    listed frame without one, and label images that are not 16-bit grey.
    """
    folder = Path(labels)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of label images; there is none")
    found = {path.name.removesuffix(SUFFIX): path for path in folder.glob(f"*{SUFFIX}")}
    names = _listed(frames, found, folder) if frames else sorted(found)
    if not names:
        raise DataError(f"{folder}: expected label images *{SUFFIX}; found none")
    if isinstance(images, Sequence) and not isinstance(images, str):
        pictures = _of_list(names, images, folder)
    else:
        pictures = _in_folder(names, place(images))
    records, label_files = [], []
    for name, picture in pictures.items():
        try:
            size_hw = label_image_size(found[name])
        except DataError as error:
            if on_broken is None:
                raise
            on_broken(error)
        else:
            records.append(ImageRecord(picture.id, picture.file_name, picture.path, *size_hw))
            label_files.append(found[name])
    return WadDataset(folder, records, label_files, rider=rider)


def _in_folder(names: Sequence[str], folder: Path) -> dict[str, ListedImage]:
    return {
        name: ListedImage(number, f"{name}.jpg", folder / f"{name}.jpg") for number, name in enumerate(names, start=1)
    }


def _of_list(names: Sequence[str], images: Sequence[ListedImage], folder: Path) -> dict[str, ListedImage]:
    """The listed pictures of the frames `names`, by name, in the order of their ids."""
    pictures: dict[str, ListedImage] = {}
    labelled = set(names)
    for picture in sorted(images, key=lambda one: one.id):
        name = picture.path.stem
        if name in pictures:
            raise DataError(f"images: expected one picture of each frame; got {pictures[name].path} and {picture.path}")
        if name in labelled:
            pictures[name] = picture
    if not pictures:
        raise DataError(f"images: expected pictures of frames that are labelled in {folder}; got {len(images)} others")
    return pictures


def to_annotations(labels: LabelMap, categories: Categories = EVALUATED) -> Annotations:
    """Objects of a label image (H, W) whose classes `categories` has, in the order of their values, boxes tight.

    Behind them follow the regions to ignore, each connected one a crowd of label -1: any class.
    """
    values, extents = label_map.extents(labels)
    label_of = {id_: label for label, id_ in enumerate(categories.ids)}
    objects = [i for i, value in enumerate(values.tolist()) if value // 1000 in label_of]
    crops = [_cut(labels, extents[i]) == np.uint16(values[i]) for i in objects]  # an int64 would widen every pixel
    offsets = [extents[i, :2] for i in objects]
    numbers = [label_of[int(values[i]) // 1000] for i in objects]
    for crop, offset in _ignored(labels, extents[np.isin(values, IGNORED)]):
        crops.append(crop)
        offsets.append(offset)
        numbers.append(ANY_CLASS)
    masks = CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(crop.view(np.uint8) for crop in crops))
    numbered = np.array(numbers, dtype=np.int32)
    return Annotations(masks.boxes(), numbered, masks, numbered == ANY_CLASS)


def _ignored(labels: LabelMap, extents: Any) -> list[tuple[Any, Any]]:
    """Crops and offsets of the connected regions of ignored values."""
    if not len(extents):
        return []
    corner = extents[:, :2].min(axis=0)
    box = np.concatenate([corner, extents[:, 2:].max(axis=0)])
    parts = label_map.components(np.isin(_cut(labels, box), IGNORED).astype(np.uint8))
    numbers, places = label_map.extents(parts)
    return [
        (_cut(parts, place) == number, place[:2] + corner)
        for number, place in zip(numbers, places, strict=True)
        if number
    ]


def _cut(pixels: Any, box: Any) -> Any:
    x1, y1, x2, y2 = box
    return pixels[y1:y2, x1:x2]


def _listed(lists: Sequence[Path | str], found: Mapping[str, Path], folder: Path) -> list[str]:
    """The names of the listed frames, rising, each once."""
    names: set[str] = set()
    for source in lists:
        listed = frames_of(source)
        missing = sorted(listed - found.keys())
        if missing:
            raise DataError(
                f"{source}: {len(missing)} of its {len(listed)} frames have no label image in {folder}, "
                f"the first is {missing[0]}"
            )
        names |= listed
    return sorted(names)


def frames_of(source: Path | str) -> set[str]:
    """The names of the frames in a list of the data set. Raises `DataError` for a file that cannot be read."""
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: expected a list of frames, one a line; got {error}") from None
    return {_frame(line) for line in lines if line.strip()}


def _frame(line: str) -> str:
    """`road01_ins\\ColorImage\\Record011\\Camera 5\\NAME.jpg<tab>...` is the frame NAME."""
    return line.split("\t")[0].strip().replace("\\", "/").rpartition("/")[2].removesuffix(".jpg")
