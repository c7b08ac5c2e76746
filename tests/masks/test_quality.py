"""The predicted fit of masks stays with them, whatever is done to them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tests.dense_masks import blobs, runs_of
from tis_ray.errors import InputError
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, Masks, RunMasks

QUALITY = np.array([0.9, 0.5, 0.25, 0.75], np.float32)
PRESENT = np.array([True, True, False, True])


def boxes() -> np.ndarray:
    return np.array([[10 * i, 0, 10 * i + 8, 8] for i in range(4)], np.float32)


def patches() -> BoxMasks:
    return BoxMasks(boxes(), np.full((4, 4, 4), 0.75, np.float16), PRESENT, quality=QUALITY)


def pixels() -> RunMasks:
    return RunMasks(runs_of(blobs(4, 30, 40)), PRESENT, QUALITY)


@pytest.fixture(params=[patches, pixels], ids=["patches", "pixels"])
def masks(request: pytest.FixtureRequest) -> Masks:
    return request.param()


def without(masks: Masks) -> Masks:
    return replace(masks, quality=None)


def joined(parts: list[Masks]) -> Masks:
    return type(parts[0]).concatenate(parts)


@pytest.mark.parametrize("index", [[3, 0, 0], slice(1, 4), PRESENT, np.zeros(0, np.int64)])
def test_indexing_keeps_it(masks: Masks, index: object) -> None:
    np.testing.assert_array_equal(masks[index].quality, QUALITY[index])
    assert without(masks)[index].quality is None


def test_joining_says_1_of_masks_of_which_nothing_is_predicted(masks: Masks) -> None:
    found = joined([masks[[0]], without(masks)[[1, 2]], masks[:0], masks[[3]]]).quality
    np.testing.assert_array_equal(found, np.array([0.9, 1, 1, 0.75], np.float32), strict=True)
    assert joined([without(masks), without(masks)]).quality is None


def test_a_mean_has_the_mean_of_what_was_picked_by_the_same_weights(masks: Masks) -> None:
    picks = np.array([[0, 1, -1], [3, -1, -1], [-1, -1, -1], [0, 1, 3]])
    shares = np.array([[1, 3, 9], [0.2, 5, 5], [1, 1, 1], [0, 0, 0]])
    found = masks.averaged(boxes(), picks, shares)
    assert found.quality.dtype == np.float32
    np.testing.assert_allclose(found.quality, [(0.9 + 3 * 0.5) / 4, 0.75, 1, 1], atol=1e-6)
    assert without(masks).averaged(boxes(), picks, shares).quality is None


def test_what_a_mean_does_not_pick_has_no_say(masks: Masks) -> None:
    broken = replace(masks, quality=np.array([0.9, 0.5, np.nan, np.nan], np.float32))
    picks = np.array([[0, 1, -1], [1, 2, 3]])
    found = broken.averaged(boxes()[:2], picks, np.array([[1.0, 1, 1], [1, 0, 0]]))
    np.testing.assert_allclose(found.quality, [0.7, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [(True, True, [0.9, 0.1, 0.1, 0.75]), (True, False, [0.9, 1, 1, 0.75]), (False, True, [1, 0.1, 0.1, 1])],
)
def test_it_goes_where_masks_are_replaced(masks: Masks, mine: bool, theirs: bool, expected: list[float]) -> None:
    own = masks if mine else without(masks)
    others = replace(masks, quality=np.full(4, 0.1, np.float32) if theirs else None)
    found = own.replaced(np.array([False, True, True, False]), others).quality
    np.testing.assert_array_equal(found, np.float32(expected), strict=True)
    assert without(masks).replaced(PRESENT, without(masks)).quality is None


def test_other_sides_and_other_processes_change_nothing() -> None:
    np.testing.assert_array_equal(patches().resized(9).quality, QUALITY)
    for masks in (patches(), pixels(), without(patches())):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(masks)).quality, masks.quality)


def test_keys_tell_masks_of_another_fit_apart(masks: Masks) -> None:
    other = replace(masks, quality=QUALITY / 2)
    assert masks.key(0) != other.key(0)
    assert masks.key(2) == other.key(2)  # no mask
    assert masks.key(0).startswith(without(masks).key(0))


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
def test_a_value_beyond_its_range_is_refused_where_there_is_a_mask(masks: Masks, value: float) -> None:
    quality = QUALITY.copy()
    quality[2] = value
    replace(masks, quality=quality).check_values()
    with pytest.raises(InputError, match=r"^masks\.quality: expected 0\.\.1; got .* at position 2$"):
        replace(masks, quality=quality, present=np.ones(4, np.bool_)).check_values()


@pytest.mark.parametrize("quality", [np.ones(3, np.float32), np.ones(4), np.ones((4, 1), np.float32)])
def test_another_form_is_refused(masks: Masks, quality: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"^quality: expected float32 \(4,\); got float"):
        replace(masks, quality=quality)


def test_masks_are_ranked_by_the_product_of_score_and_fit(masks: Masks) -> None:
    found = Instances.of(boxes(), [0.8, 0.6, 0.5, 0.4], [0] * 4, masks)
    expected = np.float32([0.8, 0.6, 0.5, 0.4]) * np.float32([0.9, 0.5, 1, 0.75])  # the third has no mask
    np.testing.assert_array_equal(found.mask_scores, expected, strict=True)
    for bare in (replace(found, masks=without(masks)), found.without_masks()):
        np.testing.assert_array_equal(bare.mask_scores, found.scores, strict=True)
