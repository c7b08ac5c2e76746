"""Opening the data set that a recipe names, whatever its format."""

from tis_ray.config import CocoFolder, WadFolder
from tis_ray.formats import coco, wad
from tis_ray.formats.dataset import GroundTruth


def open_dataset(folder: CocoFolder | WadFolder) -> GroundTruth:
    """Read and check what `folder` names; `DataError` for what is missing or wrong. Pictures are not opened."""
    if isinstance(folder, WadFolder):
        return wad.read(folder.labels, folder.images, frames=folder.frames, rider=folder.rider)
    return coco.read(folder.annotations, folder.images)
