"""On a GPU: rounded, compiled and shared forwards find what plain ones find, and only NMS is waited for."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.matched import matched
from tests.inference.test_precision import everything_is_answered
from tests.inference.test_together import pictures
from tests.tiny import save_tiny_checkpoint
from tis_ray.inference.asked import Asked
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Instances
from tis_ray.models import checkpoint
from tis_ray.views import View

pytestmark = [
    pytest.mark.gpu,
    # Of PyTorch's compiler: of itself and of older names that it still uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
VIEWS = [View("m", 160), View("m", 160, flip=True), View("m", 64)]
SIZE = (80, 112)


@pytest.fixture(autouse=True)
def _needs_a_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), detector=everything_is_answered())


def assert_matched(expected: list[Instances], found: list[Instances]) -> None:
    """Nine of ten instances have a twin; half of those overlap it by 0.9, and no score moves by more than 0.02."""
    for one, other in zip(expected, found, strict=True):
        share, overlaps, scores = matched(one, other)
        assert share > 0.9
        assert np.median(overlaps) > 0.9
        assert scores.max() < 0.02


def plain(folder: Path) -> Predictor:
    """float32 weights that autocast rounds in each forward."""
    return Predictor(checkpoint.load(folder)[0], device="cuda", share=False)


def test_rounded_weights_find_what_autocast_finds(folder: Path) -> None:
    (picture,) = pictures(1)
    rounded = Predictor.from_checkpoint(folder, device="cuda")
    assert any(weights.dtype == torch.bfloat16 for weights in rounded.detector.parameters())
    assert_matched(plain(folder).predict(picture, VIEWS), rounded.predict(picture, VIEWS))


def test_pictures_that_share_forwards_find_what_they_find_alone(folder: Path) -> None:
    predictor, some = Predictor.from_checkpoint(folder, device="cuda"), pictures(3)
    assert predictor.pictures_at_once(SIZE, VIEWS) > 3
    for picture, found in zip(some, predictor.predict_together([Asked(one) for one in some], VIEWS), strict=True):
        assert_matched(plain(folder).predict(picture, VIEWS), found)


def test_graphs_find_what_plain_forwards_find(folder: Path) -> None:
    predictor, some = Predictor.from_checkpoint(folder, device="cuda", batch_px=6 * 160 * 224), pictures(3)
    predictor.compile()
    predictor.warm_up([SIZE], VIEWS)
    assert len(predictor.detector.graphs.sizes) == 4
    for picture, found in zip(some, predictor.predict_together([Asked(one) for one in some], VIEWS), strict=True):
        assert_matched(plain(folder).predict(picture, VIEWS), found)
    own = predictor.predict(some[0], VIEWS[:1])[0][:20]
    (masks,) = predictor.predict_masks(some[0], own.boxes, own.labels, VIEWS[:1])
    np.testing.assert_allclose(masks.probabilities, own.masks.probabilities, rtol=0, atol=0.05)


def test_a_forward_is_waited_for_in_nms_alone(folder: Path) -> None:
    """Twice a picture in NMS; what comes to the host is waited for by an event, which is not warned of."""
    (picture,) = pictures(1)
    predictor = Predictor.from_checkpoint(folder, device="cuda")
    predictor.predict(picture, VIEWS)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            predictor.predict(picture, VIEWS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(one.message) for one in caught) <= 2 * len(VIEWS)
