"""An ensemble in this process as a segmenter for batch runs: no Ray, the same answers."""

import threading

import numpy as np
from numpy.typing import NDArray

from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.runs.records import ViewOutcome
from tis_ray.submission.pipeline import Segmented


class InProcessSegmenter:
    """A segmenter over an ensemble's predictor; `keep_views` brings each view's instances too.

    Several threads may call it at once: they open images side by side, and one at a time has the models.
    """

    def __init__(self, predictor: EnsemblePredictor, *, keep_views: bool = False, model_version: str = "") -> None:
        self._predictor = predictor
        self._keep_views = keep_views
        self._model_version = model_version
        self._models = threading.Lock()

    def __call__(self, image: NDArray[np.uint8]) -> Segmented:
        """What the ensemble finds."""
        with self._models:
            found = self._predictor.explain(image, own_masks=self._keep_views)
        outcomes = tuple(
            ViewOutcome(view.name, "ok", found.seconds[view], len(found.views.get(view, ())))
            for view in self._predictor.views
        )
        return Segmented(found.instances, found.views if self._keep_views else {}, outcomes, self._model_version)
