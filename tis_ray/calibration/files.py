"""What results files hold of a validation set, for calibration."""

from collections.abc import Iterator

from tis_ray.calibration.spoken import by_member
from tis_ray.config import ResultsFiles
from tis_ray.formats.dataset import GroundTruth
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Annotations, Instances
from tis_ray.results.progress import Progress, silent
from tis_ray.results.reading import per_image


def found_in_files(
    files: ResultsFiles, dataset: GroundTruth, *, progress: Progress = silent
) -> Iterator[tuple[Annotations, dict[str, Instances]]]:
    """For each image its ground truth and what the files of each member hold of it.

    Raises `DataError` for what is wrong in a file, before the first image.
    """
    fuser, views = Fuser(files.section, dataset.categories), files.views
    for record, found in per_image(files, dataset, progress=progress, doing="matching"):
        by_view = {views[name]: instances for name, instances in found.items()}
        members = by_member(by_view, fuser, image_hw=(record.height, record.width))
        yield dataset.annotations(record.id), members
