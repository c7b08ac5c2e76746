"""Opening the data set that a recipe names, whatever its format."""

from pathlib import Path

from tis_ray.config import CocoFolder, WadFolder
from tis_ray.errors import ConfigError
from tis_ray.formats import annotation_cache, wad
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.locations import is_remote
from tis_ray.formats.unlabelled import add_unlabelled


def open_dataset(folder: CocoFolder | WadFolder) -> GroundTruth:
    """Read and check what `folder` names; `DataError` for what is missing or wrong. Pictures are not opened."""
    if isinstance(folder, WadFolder):
        return wad.read(folder.labels, folder.images, frames=folder.frames, rider=folder.rider)
    truth = annotation_cache.read(folder.annotations, folder.images)
    return truth if folder.unlabelled is None else add_unlabelled(truth, folder.unlabelled)


def open_path(ground_truth: Path, images: Path | None = None) -> GroundTruth:
    """The data set at `ground_truth`: a COCO JSON file or its URL, with the folder of its `images`, or WAD's labels.

    Label images know no ids. Theirs are those of their pictures in `images`, what results were made of: a folder, a
    .txt list or a COCO .json, numbered as `read_image_list` does; labels of other pictures are left out. Raises
    `ConfigError` for a folder of labels without `images`.
    """
    if is_remote(ground_truth) or not ground_truth.is_dir():
        return annotation_cache.read(ground_truth, images)
    if images is None:
        raise ConfigError(f"--image-folder: expected the pictures that {ground_truth} labels; got none")
    return wad.read(ground_truth, read_image_list(images))
