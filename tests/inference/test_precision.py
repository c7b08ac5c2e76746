"""bfloat16 weights: what autocast makes of float32 ones, and on a CPU close to float32's answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.matched import matched
from tests.models.test_every_part import CASES, build, outspoken, picture
from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.inference.precision import dtype_of, round_weights
from tis_ray.inference.predictor import Predictor
from tis_ray.views import View


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:1", torch.bfloat16),
        ("float32", "cuda", torch.float32),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_precision_goes_by_the_device_unless_it_is_said(precision: str, device: str, expected: torch.dtype) -> None:
    assert dtype_of(precision, device) == expected


@pytest.mark.parametrize("case", CASES)
def test_rounded_weights_answer_to_the_bit_what_autocast_does(case: str) -> None:
    """For every part of the menus, so also for those that compute in float32 under autocast."""
    detector = outspoken(build(CASES[case])).eval()
    for name, bias in detector.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(bias, std=0.1)  # zeros would be the same in any precision
    images = [picture(), picture(1)]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = detector(images)
        round_weights(detector)
        found = detector(images)
    assert any(weights.dtype == torch.bfloat16 for weights in detector.parameters())
    for one, other in zip(expected, found, strict=True):
        assert len(one.scores) > 0
        for field, value in zip(one._fields, one, strict=True):
            if value is None:
                assert getattr(other, field) is None
            else:
                torch.testing.assert_close(getattr(other, field), value, rtol=0, atol=0, msg=field)


def test_float32_is_what_a_cpu_answers_unasked_to_the_bit(tiny_checkpoint: Path, picture: np.ndarray) -> None:
    views = [View("m", 64), View("m", 96, flip=True)]
    unasked = Predictor.from_checkpoint(tiny_checkpoint, device="cpu").predict(picture, views)
    exact = Predictor.from_checkpoint(tiny_checkpoint, device="cpu", precision="float32")
    for one, other in zip(exact.predict(picture, views), unasked, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.masks.probabilities, other.masks.probabilities)
    assert all(weights.dtype == torch.float32 for weights in exact.detector.parameters())


def test_bfloat16_finds_on_a_cpu_what_float32_finds(tmp_path: Path, picture: np.ndarray) -> None:
    folder = save_tiny_checkpoint(tmp_path, detector=everything_is_answered())
    view = [View("m", 80)]
    (exact,) = Predictor.from_checkpoint(folder, device="cpu").predict(picture, view)
    rounded = Predictor.from_checkpoint(folder, device="cpu", precision="bf16")
    assert any(weights.dtype == torch.bfloat16 for weights in rounded.detector.parameters())
    (found,) = rounded.predict(picture, view)
    share, overlaps, scores = matched(exact, found)
    assert share > 0.9
    assert np.median(overlaps) > 0.9
    assert scores.max() < 0.02


def everything_is_answered() -> dict[str, object]:
    """The tiny detector with so many answers that none is left out for another with the same score but for rounding."""
    most = {"pre_nms_top_n_test": 5000, "post_nms_top_n_test": 5000, "nms_iou_test": 0.95}
    box = TINY_DETECTOR["box"] | {"max_instances": 5000, "nms_iou": 0.95}
    return TINY_DETECTOR | {"rpn": TINY_DETECTOR["rpn"] | most, "box": box}
