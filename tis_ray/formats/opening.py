"""Opening the data set that a recipe names, whatever its format."""

from pathlib import Path

from tis_ray.config import CocoFolder, WadFolder
from tis_ray.errors import ConfigError
from tis_ray.formats import coco, wad
from tis_ray.formats.dataset import GroundTruth


def open_dataset(folder: CocoFolder | WadFolder) -> GroundTruth:
    """Read and check what `folder` names; `DataError` for what is missing or wrong. Pictures are not opened."""
    if isinstance(folder, WadFolder):
        return wad.read(folder.labels, folder.images, frames=folder.frames, rider=folder.rider)
    return coco.read(folder.annotations, folder.images)


def open_path(ground_truth: Path, images: Path | None = None) -> GroundTruth:
    """The data set at `ground_truth`: a COCO JSON file, or a folder of WAD labels beside the folder of its `images`.

    Frames of a WAD folder are numbered from 1 by name, as those of a folder of pictures are. Raises `ConfigError` for a
    folder of labels without one of images.
    """
    if not ground_truth.is_dir():
        return coco.read(ground_truth, images)
    if images is None:
        raise ConfigError(f"--image-folder: expected the folder of the pictures that {ground_truth} labels; got none")
    return wad.read(ground_truth, images)
