"""COCO's or LVIS's AP of the detector in training: one scale, no flip, no ensemble."""

from typing import Any

import numpy as np
import torch

from tis_ray.data.dataset import check_size
from tis_ray.evaluation.coco import UNDEFINED, evaluate
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.images import open_image
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories
from tis_ray.models.detector import Detector
from tis_ray.training.samples import Samples
from tis_ray.views import View

_SCORES = {"ap": "AP", "ap_small": "APs", "ap_rare": "APr", "ap_common": "APc", "ap_frequent": "APf"}


class Validation:
    """Scores a detector trained on the classes `trained` against `truth`.

    Classes are joined by name; `truth` may lack some of them. Raises `ConfigError` where it has one that is not
    trained.
    """

    def __init__(self, truth: GroundTruth, trained: Categories, *, scale: int, max_long_edge: int | None) -> None:
        self.truth, self.samples = truth, Samples(truth)
        self.view = View("validation", scale, False, (), max_long_edge)
        self.index_map = np.full(len(trained), -1, dtype=np.int32)
        self.index_map[truth.categories.index_map(trained, key="data.val")] = np.arange(len(truth.categories))

    def scores(self, detector: Detector, *, device: torch.device) -> dict[str, float]:
        """`box_ap`, `box_ap_small` and, with a mask branch, `mask_ap`, `mask_ap_small`, in 0..1.

        Where classes have frequencies, also `box_ap_rare`, `_common`, `_frequent` and the masks'. A score without an
        object to compute it from is left out. The detector is left in evaluation mode.
        """
        predictor = Predictor(detector, device=device, index_map=self.index_map)
        results = self._results(predictor)
        kinds = {"box": "bbox"} | ({"mask": "segm"} if detector.predicts_masks else {})
        report = evaluate(self.truth, results, kinds=tuple(kinds.values()))
        scores: dict[str, float] = {}
        for name, kind in kinds.items():
            scores |= {f"{name}_{key}": getattr(report[kind], score) for key, score in _SCORES.items()}
        return {name: score for name, score in scores.items() if score != UNDEFINED}

    def _results(self, predictor: Predictor) -> list[dict[str, Any]]:
        results = []
        for record in self.truth.images:
            image = open_image(record.path)
            check_size(record, image)
            (found,) = predictor.predict(image, [self.view])
            self.samples.seen(record, image, found)
            results += to_results(
                found, image_id=record.id, categories=self.truth.categories, size_hw=(record.height, record.width)
            )
        return results
