"""A member that predicts how well its masks fit, from its checkpoint to what is written."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import tis_ray
from tests.tiny import CATEGORIES, TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.formats.coco_results import to_results
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.inference.predictor import Predictor
from tis_ray.views import View

RESCORED = {**TINY_DETECTOR, "mask": {**TINY_DETECTOR["mask"], "rescore": {"channels": 16, "hidden": 32}}}


def tuned(predictor: Predictor) -> Predictor:
    """Its fits differ much, as a trained member's do."""
    layer = predictor.detector.roi_heads.mask_branch.rescore.iou
    layer.weight.data.mul_(20)
    layer.bias.data.fill_(0.5)
    return predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rescored")
    save_tiny_checkpoint(folder / "rescored", detector=RESCORED)
    save_tiny_checkpoint(folder / "plain", seed=1)
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return tuned(Predictor.from_checkpoint(folder / "rescored", device="cpu"))


def ensemble(folder: Path, *members: str, **fusion: object) -> EnsemblePredictor:
    content = {
        "members": {name: {"checkpoint": name, "scales": [64]} for name in members},
        "fusion": {"rules": ["nms"], **fusion},
    }
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(content))
    loaded = tis_ray.load(folder / "ensemble.yaml")
    tuned(loaded.predictors["rescored"])
    return loaded


def test_a_mirrored_view_of_a_mirrored_picture_finds_the_same_fits(predictor: Predictor, picture: np.ndarray) -> None:
    (plain,) = predictor.predict(picture, [View("m", 80)])
    (flipped,) = predictor.predict(np.ascontiguousarray(picture[:, ::-1]), [View("m", 80, flip=True)])
    assert plain.masks.quality.std() > 0.01
    np.testing.assert_allclose(flipped.masks.quality, plain.masks.quality, atol=1e-3)


def test_given_its_own_boxes_it_says_the_same(predictor: Predictor, picture: np.ndarray) -> None:
    views = [View("m", 64), View("m", 96), View("m", 64, tile=(64, 64, 16))]
    for view, own in zip(views, predictor.predict(picture, views), strict=True):
        (found,) = predictor.predict_masks(picture, own.boxes, own.labels, [view])
        same = found.present if view.tile else np.ones(len(own), np.bool_)
        assert same.any()
        if not view.tile:
            np.testing.assert_allclose(found.quality, own.masks.quality, atol=1e-5)
        assert ((found.quality[same] >= 0) & (found.quality[same] <= 1)).all()


def test_nothing_found_is_an_answer(predictor: Predictor, picture: np.ndarray) -> None:
    none = np.zeros((0, 4), np.float32)
    (found,) = predictor.predict_masks(picture, none, np.zeros(0, np.int32), [View("m", 64)])
    assert len(found) == 0


@pytest.mark.parametrize(
    "fusion", [{}, {"masks": "average"}, {"second_pass": True}], ids=["best", "mean", "two passes"]
)
@pytest.mark.parametrize("members", [("rescored",), ("rescored", "plain")], ids=["alone", "beside a plain one"])
def test_an_ensemble_writes_scores_of_masks(
    folder: Path, picture: np.ndarray, members: tuple[str, ...], fusion: dict[str, object]
) -> None:
    found = ensemble(folder, *members, **fusion).predict(picture)
    results = to_results(found, image_id=1, categories=CATEGORIES, size_hw=(80, 112))
    assert len(results) > 0
    scores = np.array([result["score"] for result in results])
    masks = np.array([result["mask_score"] for result in results])
    assert (masks <= scores).all()
    assert (masks < scores).any()
    np.testing.assert_allclose(masks, scores * found.masks.quality, atol=2e-6)
