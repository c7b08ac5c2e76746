"""What every member of an ensemble finds in a validation set, looked for in this process."""

from collections.abc import Iterator

from tis_ray.calibration.spoken import by_member
from tis_ray.data.dataset import check_size
from tis_ray.formats.categories import class_map
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.images import open_image
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.instances import Annotations, Instances
from tis_ray.results.progress import Progress, silent


def found_by_members(
    ensemble: EnsemblePredictor, dataset: GroundTruth, *, progress: Progress = silent
) -> Iterator[tuple[Annotations, dict[str, Instances]]]:
    """For each image its ground truth and what the views of each member find there, labelled as in the data set.

    Classes that the data set does not know are left out. Raises `ConfigError` where it knows none of the ensemble's,
    and `DataError` for an image that cannot be read or is not as large as listed.
    """
    index_map = class_map(ensemble.categories, dataset.categories, key="--data")
    for record in progress(dataset.images, "looking for objects", len(dataset), "images"):
        image = open_image(record.path)
        check_size(record, image)
        found = {view: one.relabelled(index_map) for view, one in ensemble.predict_views(image).items()}
        members = by_member(found, ensemble.fuser, image_hw=(record.height, record.width))
        yield dataset.annotations(record.id), members
