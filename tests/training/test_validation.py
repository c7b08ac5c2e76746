"""Validation joins the classes of two data sets by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import CATEGORIES, save_tiny_checkpoint
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.coco_results import to_results
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories, Instances
from tis_ray.models import checkpoint
from tis_ray.training.validation import Validation
from tis_ray.views import View

CPU = torch.device("cpu")
OTHERS = Categories((1, 2), ("person", "car"))  # "bus" is trained, but not in the data set


def data_set(folder: Path, picture: np.ndarray, objects: Instances, categories: Categories) -> coco.CocoDataset:
    """One picture that holds exactly these objects."""
    height, width = picture.shape[:2]
    Image.fromarray(picture).save(folder / "a.png")
    results = to_results(objects, image_id=1, categories=categories, size_hw=(height, width), masks=False)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": categories.to_json(),
        "annotations": [result | {"id": i} for i, result in enumerate(results, start=1)],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return coco.read(folder / "truth.json", folder)


def test_what_is_found_of_a_class_that_the_data_set_lacks_does_not_count(tmp_path, picture) -> None:
    folder = save_tiny_checkpoint(tmp_path / "checkpoint", seed=5)  # whose random weights find two classes
    detector, _, trained = checkpoint.load(folder)
    (found,) = Predictor(detector, device=CPU).predict(picture, [View("validation", 64)])
    assert {0, 2} <= set(found.labels)  # car and bus
    known = found.relabelled(trained_to_others(trained))
    truth = data_set(tmp_path, picture, known, OTHERS)
    scores = Validation(truth, trained, scale=64, max_long_edge=None).scores(detector, device=CPU)
    assert scores["box_ap"] == pytest.approx(1)


def trained_to_others(trained: Categories) -> np.ndarray:
    return np.array([OTHERS.names.index(name) if name in OTHERS.names else -1 for name in trained.names], np.int32)


def test_a_class_that_is_not_trained_is_refused(tmp_path, picture) -> None:
    truth = data_set(tmp_path, picture, Instances.empty(), Categories((1, 2), ("bus", "tram")))
    with pytest.raises(ConfigError, match=r"^data\.val: tram not among the expected classes \(car, person, bus\)"):
        Validation(truth, CATEGORIES, scale=64, max_long_edge=None)
