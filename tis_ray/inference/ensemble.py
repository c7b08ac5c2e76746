"""A whole ensemble in one process, without Ray: `tis_ray.load("ensemble.yaml").predict(image)`.

The same predictors, views and fusion as the service, so the same answer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tis_ray.config import Ensemble, load_ensemble
from tis_ray.formats.images import open_image
from tis_ray.formats.members import ensemble_categories, ensemble_sizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.inference.predictor import Predictor, check_image
from tis_ray.instances import Categories, Instances
from tis_ray.views import View


class EnsemblePredictor:
    """Members by name, the views they are asked for, and the fusion of what they find."""

    def __init__(
        self, predictors: Mapping[str, Predictor], views: Sequence[View], fuser: Fuser, categories: Categories
    ) -> None:
        self.predictors = predictors
        self.views = tuple(sorted(views))
        self.fuser = fuser
        self.categories = categories

    def predict(self, image: NDArray[np.uint8] | Path | str) -> Instances:
        """The fused instances of an image: a file, or uint8 RGB (H, W, 3). Boxes and masks are in its frame."""
        pixels = open_image(Path(image)) if isinstance(image, (str, Path)) else image
        found = self.predict_views(pixels)
        return self.fuser.fuse(found, image_hw=(pixels.shape[0], pixels.shape[1]), sources=self.views)

    def predict_views(self, image: NDArray[np.uint8]) -> dict[View, Instances]:
        """What each view finds by itself, before fusion, for uint8 RGB (H, W, 3)."""
        check_image(image)
        found: dict[View, Instances] = {}
        for name, predictor in self.predictors.items():
            own = [view for view in self.views if view.member == name]
            found.update(zip(own, predictor.predict(image, own), strict=True))
        return found


def load(ensemble: Ensemble | Path | str, *, device: str | None = None) -> EnsemblePredictor:
    """Read an ensemble file, or the one in a checkpoint folder, and its checkpoints.

    It runs on the GPU if there is one, unless `device` says otherwise. Raises `ConfigError` or `CheckpointError` naming
    what is wrong.
    """
    if not isinstance(ensemble, Ensemble):
        ensemble = load_ensemble(ensemble)
    categories = ensemble_categories(ensemble)
    fuser = Fuser.of(ensemble, categories, sizes=ensemble_sizes(ensemble))
    predictors = {
        name: Predictor.from_checkpoint(member.checkpoint, device=device, categories=categories)
        for name, member in ensemble.members.items()
    }
    return EnsemblePredictor(predictors, ensemble.views, fuser, categories)
