"""Pictures that are asked about together: the answers each has alone, shared forwards, and who gives up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.host_waits import host_waits
from tests.inference.test_predict_masks import BOXES, LABELS, assert_same, counted, loaded
from tis_ray.errors import InputError
from tis_ray.inference.asked import Asked, NotWantedError
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Instances
from tis_ray.models import postprocess, pyramid_align
from tis_ray.views import View

VIEWS = [View("m", 64), View("m", 96), View("m", 64, flip=True), View("m", 48, tile=(64, 48, 20))]


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    return loaded(tiny_checkpoint)


@pytest.fixture
def sharing(tiny_checkpoint: Path) -> Predictor:
    """One that lets pictures share forwards, as on a GPU."""
    found = loaded(tiny_checkpoint)
    found.share = True
    return found


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 80, 112, 3), dtype=np.uint8))


def until(forwards: int) -> Callable[[], bool]:
    """Whether it is wanted: before the first `forwards` of them."""
    answers = iter([True] * forwards)
    return lambda: next(answers, False)


def batch_sizes(predictor: Predictor, ask: Callable[[], object]) -> list[int]:
    sizes: list[int] = []
    hook = predictor.detector.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    try:
        ask()
    finally:
        hook.remove()
    return sizes


def assert_equal(one: Instances, other: Instances) -> None:
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert_same(one.masks, other.masks)


def assert_near(one: Instances, other: Instances) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=1e-2)


# ----------------------------------------------------------------------------------------------------- The same answers


def test_on_a_cpu_no_two_pictures_share_a_forward_and_answers_are_those_alone_to_the_bit(predictor: Predictor) -> None:
    some = pictures(3)
    sizes = batch_sizes(predictor, lambda: predictor.predict_together([Asked(one) for one in some], VIEWS))
    assert predictor.pictures_at_once((80, 112), VIEWS) == 1
    assert sorted(set(sizes)) == [1, 2, 9]  # a view, with its mirror image, or its nine tiles
    assert len(sizes) == 9
    together = predictor.predict_together([Asked(one) for one in some], VIEWS)
    for picture, found in zip(some, together, strict=True):
        for own, alone in zip(found, predictor.predict(picture, VIEWS), strict=True):
            assert_equal(own, alone)


def test_pictures_that_share_forwards_get_the_answers_they_have_alone(sharing: Predictor, predictor: Predictor) -> None:
    some = pictures(3)
    sizes = batch_sizes(sharing, lambda: sharing.predict_together([Asked(one) for one in some], VIEWS))
    assert sizes == [3, 6, 27]
    for picture, found in zip(some, sharing.predict_together([Asked(one) for one in some], VIEWS), strict=True):
        for own, alone in zip(found, predictor.predict(picture, VIEWS), strict=True):
            assert len(alone) > 3
            assert_near(own, alone)


def test_as_many_share_a_forward_as_the_pixels_allow(tiny_checkpoint: Path) -> None:
    views = [View("m", 64), View("m", 64, flip=True), View("m", 16)]
    pixels = 64 * 90  # of the picture at 64
    for batch_px, most, sizes in [
        (1, 1, [2] * 5 + [1] * 5),
        (4 * pixels, 2, [4, 4, 2, 2, 2, 1]),
        (7 * pixels, 3, [6, 4, 3, 2]),
        (99 * pixels, 49, [10, 5]),
    ]:
        predictor = Predictor(loaded(tiny_checkpoint).detector, device="cpu", batch_px=batch_px, share=True)
        assert predictor.pictures_at_once((80, 112), views) == most
        asked = [Asked(one) for one in pictures(5)]
        assert batch_sizes(predictor, lambda asked=asked, own=predictor: own.predict_together(asked, views)) == sizes


def test_largest_inputs_come_first(predictor: Predictor, picture: np.ndarray) -> None:
    heights: list[int] = []
    hook = predictor.detector.backbone.register_forward_pre_hook(lambda _, inputs: heights.append(inputs[0].shape[2]))
    predictor.predict(picture, [View("m", scale) for scale in (64, 160, 32, 96)])
    hook.remove()
    assert heights == [160, 96, 64, 32]


def test_no_pictures_and_pictures_without_views_have_empty_answers(predictor: Predictor) -> None:
    assert predictor.predict_together([], VIEWS) == []
    assert predictor.predict_together([Asked(one) for one in pictures(2)], []) == [[], []]
    missed = View("m", 64, crop=(500, 500, 600, 600))
    found = predictor.predict_together([Asked(one) for one in pictures(2)], [missed])
    assert [[len(one) for one in views] for views in found] == [[0], [0]]


def test_pictures_of_several_sizes_are_refused(predictor: Predictor) -> None:
    first, second = pictures(2)
    with pytest.raises(InputError, match=r"^asked: expected images of one size; got 112x70, 112x80$"):
        predictor.predict_together([Asked(first), Asked(second[:70])], VIEWS)


# ------------------------------------------------------------------------------------------------------------ Giving up


def test_who_is_no_longer_wanted_drops_out_before_the_next_forward(predictor: Predictor) -> None:
    some = pictures(3)
    asked = [Asked(some[0]), Asked(some[1], wanted=until(2)), Asked(some[2], wanted=until(0))]
    with counted(predictor) as runs:
        first, second, third = predictor.predict_together(asked, VIEWS)
    assert (second, third) == (None, None)
    assert runs["backbone"] == 3 + 1
    for own, alone in zip(first, predictor.predict(some[0], VIEWS), strict=True):
        assert_equal(own, alone)


def test_those_who_stay_still_share(sharing: Predictor) -> None:
    asked = [Asked(one, wanted=until(2) if i == 1 else until(9)) for i, one in enumerate(pictures(3))]
    sizes = batch_sizes(sharing, lambda: sharing.predict_together(asked, VIEWS))
    assert sizes == [3, 6, 18]


def test_nobody_wanted_costs_nothing(predictor: Predictor) -> None:
    asked = [Asked(one, "key", wanted=until(0)) for one in pictures(2)]
    with counted(predictor) as runs:
        assert predictor.predict_together(asked, VIEWS) == [None, None]
        assert predictor.remember_together(asked, VIEWS) == [False, False]
    assert not runs
    assert not predictor.memory.holds("key")


def test_masks_that_nobody_waits_for_end_before_the_next_forward(predictor: Predictor, picture: np.ndarray) -> None:
    with counted(predictor) as runs, pytest.raises(NotWantedError, match="nobody waits"):
        predictor.predict_masks(picture, BOXES, LABELS, VIEWS, wanted=until(2))
    assert runs["backbone"] == 2
    assert len(predictor.predict_masks(picture, BOXES, LABELS, VIEWS, wanted=until(3))) == len(VIEWS)


# --------------------------------------------------------------------------------------------------------------- Memory


@pytest.mark.parametrize("first", ["predict", "remember"])
def test_each_keeps_its_own_features_of_a_shared_forward(sharing: Predictor, first: str) -> None:
    some = pictures(3)
    asked = [Asked(one, f"key {i}" if i != 1 else None) for i, one in enumerate(some)]
    if first == "predict":
        sharing.predict_together(asked, VIEWS, masks=False)
    else:
        assert sharing.remember_together([one for one in asked if one.remember], VIEWS) == [True, True]
    taken = sharing.memory.nbytes
    for i in (0, 2):
        with counted(sharing) as runs:
            recalled = sharing.predict_masks(some[i], BOXES, LABELS, VIEWS, recall=f"key {i}")
        assert set(runs) == {"mask head"}
        for own, fresh in zip(recalled, sharing.predict_masks(some[i], BOXES, LABELS, VIEWS), strict=True):
            assert_same(own, fresh, atol=1e-2)
    sharing.memory.forget("key 0")
    assert sharing.memory.nbytes == taken / 2
    sharing.memory.forget("key 2")
    sharing.remember(some[0], VIEWS, "alone")
    assert sharing.memory.nbytes == taken / 2


# ---------------------------------------------------------------------------------------------------------------- Waits


def test_a_batch_is_waited_for_in_nms_and_for_one_copy(
    predictor: Predictor, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NMS twice for each of a view and its mirror image; then boxes, scores, labels and masks of both at once.

    `lift_fresh` counts what is uploaded, which nobody waits for on a GPU: the picture and the frames of its boxes, or
    the boxes and their labels.
    """
    for module in (pyramid_align, postprocess):
        monkeypatch.setattr(module, "waiting_is_free", lambda device: False)
    with host_waits() as waits:
        first, second = predictor.predict(picture, [View("m", 64), View("m", 64, flip=True)])
    assert len(first) > 3 < len(second)
    assert waits == {"torchvision::nms": 4, "cpu": 1, "numpy": 1, "aten::lift_fresh": 2}
    with host_waits() as waits:
        predictor.predict_masks(picture, BOXES, LABELS, [View("m", 64), View("m", 64, flip=True)])
    assert waits == {"cpu": 1, "numpy": 1, "aten::lift_fresh": 3}
