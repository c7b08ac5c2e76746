"""Masks that are pixels already: they answer as patches do, exactly."""

import numpy as np
import pytest

from tests.dense_masks import blobs, coco_rles, dense_of, runs_of
from tis_ray.errors import InputError
from tis_ray.instances import Instances
from tis_ray.masks import RunMasks
from tis_ray.ops.runs import Runs


def some(count=5, *, present=None, seed=0):
    return RunMasks(runs_of(blobs(count, 30, 40, seed=seed)), present)


def pixels(masks):
    return dense_of(masks.to_runs(30, 40))


def test_all_have_a_mask_unless_said_otherwise():
    assert some(3).present.tolist() == [True] * 3
    assert RunMasks.absent(30, 40, count=2).present.tolist() == [False] * 2


def test_writes_what_pycocotools_writes_and_none_for_those_without():
    masks = some(4, present=np.array([True, False, True, True]))
    theirs = coco_rles(blobs(4, 30, 40))
    written = masks.to_rle(30, 40)
    assert written[1] is None
    assert [(rle["size"], rle["counts"].encode()) for rle in written if rle] == [
        (rle["size"], rle["counts"]) for i, rle in enumerate(theirs) if i != 1
    ]


def test_an_empty_mask_is_written_and_is_not_absent():
    assert RunMasks(Runs.empty(2, 3, count=1)).to_rle(2, 3) == [{"size": [2, 3], "counts": "6"}]


def test_pixels_of_those_without_a_mask_are_none():
    masks = some(4, present=np.array([True, False, True, True]))
    dense = blobs(4, 30, 40)
    dense[1] = False
    np.testing.assert_array_equal(pixels(masks), dense)


def test_another_image_size_is_refused():
    with pytest.raises(InputError, match=r"^masks: expected an image of 40x30 px, theirs; got 30x40$"):
        some().to_runs(40, 30)
    with pytest.raises(InputError, match=r"^masks: expected an image of 40x30 px, theirs; got 30x40$"):
        some().to_rle(40, 30)


@pytest.mark.parametrize(
    "index", [[3, 0, 0], slice(1, 4), np.array([True, False, False, True, True]), np.zeros(0, np.int64)]
)
def test_indexing_keeps_masks_and_presence_together(index):
    masks = some(present=np.array([True, True, False, True, False]))
    np.testing.assert_array_equal(pixels(masks[index]), pixels(masks)[index])
    np.testing.assert_array_equal(masks[index].present, masks.present[index])


def test_concatenation_and_replacement():
    a, b = some(3), some(3, present=np.array([False, True, False]), seed=9)
    both = RunMasks.concatenate([a, b])
    np.testing.assert_array_equal(pixels(both), np.concatenate([pixels(a), pixels(b)]))
    assert both.present.tolist() == [True, True, True, False, True, False]
    where = np.array([True, True, False])
    mixed = a.replaced(where, b)
    np.testing.assert_array_equal(pixels(mixed), np.where(where[:, None, None], pixels(b), pixels(a)))
    assert mixed.present.tolist() == [False, True, True]


def test_masks_of_different_images_are_not_joined():
    with pytest.raises(InputError, match=r"^parts: expected masks of one image size; got \[\(4, 5\), \(5, 4\)\]$"):
        RunMasks.concatenate([RunMasks.absent(4, 5, count=1), RunMasks.absent(5, 4, count=1)])


def test_the_share_of_its_box_that_a_mask_fills():
    masks = RunMasks(Runs(4, 4, np.array([[0, 2], [4, 6], [8, 9]]), np.array([0, 2, 3, 3])))
    boxes = np.array([[0, 0, 2, 4], [2, 0, 2.5, 0.5], [0, 0, 4, 4]], np.float32)
    assert masks.filled(boxes).tolist() == [0.5, 1, 0]
    assert RunMasks.absent(4, 4, count=0).filled(np.zeros((0, 4), np.float32)).shape == (0,)


def test_the_mean_of_masks_is_the_pixels_that_half_of_the_shares_hold():
    masks = some(4)
    dense = pixels(masks).astype(float)
    picks = np.array([[0, 1, 2], [3, -1, -1], [-1, -1, -1], [0, 1, -1]])
    shares = np.array([[0.2, 0.5, 0.4], [1, 1, 1], [1, 1, 1], [0, 0, 1]])
    means = masks.averaged(np.zeros((4, 4), np.float32), picks, shares)
    assert means.present.tolist() == [True, True, False, False]  # where nobody counts there is no mask
    first = (0.2 * dense[0] + 0.5 * dense[1] + 0.4 * dense[2]) / 1.1 >= 0.5
    np.testing.assert_array_equal(pixels(means)[:2], [first, dense[3] > 0])


def test_the_mean_of_masks_that_agree_on_no_pixel_is_an_empty_mask():
    dense = np.eye(3, dtype=np.bool_)[:, None]
    means = RunMasks(runs_of(dense)).averaged(np.zeros((1, 4), np.float32), np.array([[0, 1, 2]]), np.ones((1, 3)))
    assert means.present.tolist() == [True]
    assert len(means.runs.spans) == 0


def test_keys_tell_masks_apart():
    masks = some(3)
    assert len({masks.key(i) for i in range(3)}) == 3
    assert masks.key(1) == masks[[1]].key(0)


@pytest.mark.parametrize(
    ("spans", "offsets", "message"),
    [
        pytest.param([[0, 2], [2, 4]], [0, 2], "spans: .* got \\[2, 4\\] at position 0", id="touching"),
        pytest.param([[4, 5], [0, 1]], [0, 2], "spans: .* got \\[0, 1\\] at position 0", id="falling"),
        pytest.param([[0, 1], [3, 3]], [0, 1, 1, 2], "spans: .* got \\[3, 3\\] at position 2", id="empty"),
        pytest.param([[0, 13]], [0, 1], "spans: .* within 0..12; got \\[0, 13\\] at position 0", id="too long"),
        pytest.param([[-1, 3]], [0, 1], "spans: .* got \\[-1, 3\\] at position 0", id="negative"),
        pytest.param([[0, 1]], [0, 2, 1], "offsets: expected numbers that rise from 0; got \\[0 2 1\\]", id="offsets"),
        pytest.param([[0, 1]], [1, 1], "offsets: expected numbers that rise from 0; got \\[1 1\\]", id="a lost span"),
    ],
)
def test_runs_that_mean_nothing_are_refused(spans, offsets, message):
    masks = RunMasks(Runs(3, 4, np.array(spans), np.array(offsets)))
    with pytest.raises(InputError, match=f"^masks.{message}$"):
        masks.check_values()


def test_sound_runs_pass():
    some(present=np.array([True, False, True, True, True])).check_values()
    RunMasks.absent(3, 4, count=2).check_values()
    RunMasks(Runs(3, 4, np.array([[0, 12], [0, 12]]), np.array([0, 0, 1, 2, 2]))).check_values()


def test_presence_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"^present: expected bool \(5,\); got bool \(4,\)$"):
        some(present=np.ones(4, np.bool_))


def test_instances_carry_them():
    instances = Instances.of(np.tile([[0, 0, 9, 9]], (5, 1)), np.linspace(0, 1, 5), np.zeros(5), some())
    assert len(instances[[4, 1]].masks) == 2
    assert len(Instances.concatenate([instances, instances]).masks) == 10
    instances.check_values(num_classes=1)
