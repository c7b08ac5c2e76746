"""Masks of given boxes: a member's own come back to the bit, others map between frames, and odd boxes are answered."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.painted import paint
from tests.inference.painted import predictor as painted
from tests.tiny import CATEGORIES, TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.errors import InputError
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

CROP = (13, 7, 101, 66)
OWN_VIEWS = {
    "plain": View("m", 64),
    "mirrored": View("m", 96, flip=True),
    "enlarged": View("m", 171),
    "crop": View("m", 73, crop=CROP),
    "mirrored crop": View("m", 73, True, CROP),
    "one tile": View("m", 64, True, tile=(300, 300, 20)),
}
BOXES = np.array([[5, 5, 40, 30], [30.5, 20.25, 90, 75], [0, 0, 112, 80]], dtype=np.float32)
LABELS = np.array([0, 2, 1], dtype=np.int32)


def loaded(folder: Path, **options: Any) -> Predictor:
    """The member of a checkpoint that nothing has trained, with masks that say more than 0.5 everywhere."""
    predictor = Predictor.from_checkpoint(folder, device="cpu", **options)
    with torch.no_grad():
        for weights in predictor.detector.roi_heads.mask_branch.parameters():
            if weights.ndim > 1:
                weights.mul_(15)
    return predictor


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    return loaded(tiny_checkpoint)


@contextmanager
def counted(predictor: Predictor) -> Iterator[Counter[str]]:
    """How often each part of the detector runs, by name."""
    seen: Counter[str] = Counter()
    detector = predictor.detector
    parts = {"backbone": detector.backbone, "rpn": detector.rpn, "mask head": detector.roi_heads.mask_branch}
    hooks = [part.register_forward_pre_hook(lambda *_, name=name: seen.update([name])) for name, part in parts.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def assert_same(one: BoxMasks, other: BoxMasks, *, atol: float = 0) -> None:
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.present, other.present)
    patches = (masks.probabilities[masks.present].astype(np.float32) for masks in (one, other))
    np.testing.assert_allclose(*patches, rtol=0, atol=atol)


# ------------------------------------------------------------------------------------------------ A member's own boxes


@pytest.mark.parametrize("view", OWN_VIEWS.values(), ids=OWN_VIEWS)
def test_a_members_own_boxes_give_its_own_masks_to_the_bit(
    predictor: Predictor, picture: np.ndarray, view: View
) -> None:
    (own,) = predictor.predict(picture, [view])
    (again,) = predictor.predict_masks(picture, own.boxes, own.labels, [view])
    assert len(own) > 3
    assert np.ptp(own.masks.probabilities) > 0.3
    assert_same(again, own.masks)


@pytest.mark.parametrize("mask", ["boundary", "residual", "deformable", "subnet", "rescore"])
def test_so_do_those_of_every_kind_of_mask_branch(tmp_path: Path, picture: np.ndarray, mask: str) -> None:
    sections = {
        "boundary": {"head": "boundary"},
        "residual": {"head": "residual"},
        "deformable": {"pooling": "deformable"},
        "subnet": {"pooling": "subnet"},
        "rescore": {"head": {"convs": {"channels": [16]}}, "rescore": {"channels": 16, "hidden": 16}},
    }
    save_tiny_checkpoint(tmp_path, detector={**TINY_DETECTOR, "mask": sections[mask]})
    predictor = loaded(tmp_path)
    view = View("m", 80, flip=True)
    (own,) = predictor.predict(picture, [view])
    (again,) = predictor.predict_masks(picture, own.boxes, own.labels, [view])
    assert_same(again, own.masks)
    assert (own.masks.quality is None) == (mask != "rescore")
    np.testing.assert_array_equal(again.quality, own.masks.quality)


def test_views_that_are_asked_together_differ_by_rounding_at_most(predictor: Predictor, picture: np.ndarray) -> None:
    views = list(OWN_VIEWS.values())
    for view, own in zip(views, predictor.predict(picture, views), strict=True):
        masks = predictor.predict_masks(picture, own.boxes, own.labels, views)[views.index(view)]
        assert_same(masks, own.masks, atol=1e-2)


def test_boxes_without_masks_are_those_with_masks(predictor: Predictor, picture: np.ndarray) -> None:
    for view in (View("m", 64), View("m", 64, crop=(500, 500, 600, 600))):
        (full,) = predictor.predict(picture, [view])
        with counted(predictor) as runs:
            (bare,) = predictor.predict(picture, [view], masks=False)
        assert "mask head" not in runs
        assert bare.masks is None
        assert full.masks is not None
        np.testing.assert_array_equal(bare.boxes, full.boxes)
        np.testing.assert_array_equal(bare.scores, full.scores)


# ------------------------------------------------------------------------------------------------------ Between frames


def test_masks_come_in_the_order_of_boxes_and_views(predictor: Predictor, picture: np.ndarray) -> None:
    views = [View("m", 96, flip=True), View("m", 64), View("m", 96), View("m", 64, crop=(0, 0, 100, 80))]
    together = predictor.predict_masks(picture, BOXES, LABELS, views)
    for view, found in zip(views, together, strict=True):
        for i in range(len(BOXES)):
            (alone,) = predictor.predict_masks(picture, BOXES[[i]], LABELS[[i]], [view])
            assert_same(found[[i]], alone, atol=1e-2)


def test_a_flipped_view_of_the_mirrored_picture_says_the_mirror_image(
    predictor: Predictor, picture: np.ndarray
) -> None:
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    moved = BOXES.copy()
    moved[:, [0, 2]] = 112 - BOXES[:, [2, 0]]
    (plain,) = predictor.predict_masks(picture, BOXES, LABELS, [View("m", 80)])
    (flipped,) = predictor.predict_masks(mirrored, moved, LABELS, [View("m", 80, flip=True)])
    np.testing.assert_allclose(
        flipped.probabilities[:, :, ::-1].astype(float), plain.probabilities.astype(float), atol=1e-2
    )


def test_a_crop_says_what_the_cropped_picture_says(predictor: Predictor, picture: np.ndarray) -> None:
    x1, y1, x2, y2 = CROP
    inside = np.array([[20, 10, 60, 50], [40.5, 30, 100, 60]], np.float32)
    (cropped,) = predictor.predict_masks(picture, inside, LABELS[:2], [View("m", 64, crop=CROP)])
    cut_out = np.ascontiguousarray(picture[y1:y2, x1:x2])
    moved = inside - np.array([x1, y1, x1, y1], np.float32)
    (alone,) = predictor.predict_masks(cut_out, moved, LABELS[:2], [View("m", 64)])
    assert cropped.present.all()
    np.testing.assert_allclose(cropped.probabilities.astype(float), alone.probabilities.astype(float), atol=2e-3)


def test_a_crop_is_silent_about_what_it_does_not_show_wholly(predictor: Predictor, picture: np.ndarray) -> None:
    whole, crop = predictor.predict_masks(picture, BOXES, LABELS, [View("m", 64), View("m", 64, crop=(2, 2, 60, 60))])
    assert whole.present.tolist() == [True, True, True]
    assert crop.present.tolist() == [True, False, False]
    np.testing.assert_array_equal(crop.boxes, BOXES)


def test_of_a_grid_the_tile_with_most_room_around_the_box_speaks(predictor: Predictor, picture: np.ndarray) -> None:
    grid = View("m", 64, flip=True, tile=(64, 48, 20))
    boxes = np.array([[45, 30, 65, 45], [0, 0, 30, 20], [10, 10, 100, 70]], np.float32)
    (found,) = predictor.predict_masks(picture, boxes, LABELS, [grid])
    assert found.present.tolist() == [True, True, False]
    tiles = {0: (24, 16, 88, 64), 1: (0, 0, 64, 48)}
    for row, crop in tiles.items():
        assert crop in {tile.crop for tile in grid.tiles((80, 112))}
        (alone,) = predictor.predict_masks(picture, boxes[[row]], LABELS[[row]], [View("m", 64, True, crop)])
        assert_same(found[[row]], alone, atol=1e-2)


def test_painted_halves_lie_where_the_picture_has_them_in_every_view() -> None:
    """The stand-in says that the left half of each network box is set, a mirrored view thus the right one."""
    views = [View("m", 80, flip, crop) for flip in (False, True) for crop in ((), (10, 10, 100, 70))]
    boxes = np.array([[20, 20, 50, 40]], np.float32)
    for view, masks in zip(views, painted().predict_masks(paint((80, 120)), boxes, LABELS[:1], views), strict=True):
        columns = masks.probabilities[0].mean(axis=0).tolist()
        assert columns == ([0, 0, 1, 1] if view.flip else [1, 1, 0, 0])


# ------------------------------------------------------------------------------------------------------- Odd questions


def test_no_boxes_cost_no_forward(predictor: Predictor, picture: np.ndarray) -> None:
    nothing = np.zeros((0, 4), np.float32)
    with counted(predictor) as runs:
        found = predictor.predict_masks(picture, nothing, np.zeros(0, np.int32), [View("m", 64), View("m", 96)])
    assert [len(masks) for masks in found] == [0, 0]
    assert not runs


def test_what_a_view_cannot_speak_for_costs_no_forward(predictor: Predictor, picture: np.ndarray) -> None:
    missed = [View("m", 64, crop=(500, 500, 600, 600)), View("m", 64, crop=(0, 0, 4, 4))]
    with counted(predictor) as runs:
        found = predictor.predict_masks(picture, BOXES, LABELS, missed)
    assert [masks.present.tolist() for masks in found] == [[False] * 3] * 2
    assert not runs


def test_tiles_without_a_box_cost_no_forward() -> None:
    singly = painted(batch_px=1)
    grid = View("m", 32, tile=(32, 32, 8))
    assert len(grid.tiles((80, 112))) == 15
    singly.predict_masks(paint((80, 112)), np.array([[2, 2, 9, 9]], np.float32), LABELS[:1], [grid])
    assert singly.detector.batches == [[(32, 32)]]


def test_boxes_without_area_or_beyond_the_image_have_no_mask(predictor: Predictor, picture: np.ndarray) -> None:
    boxes = np.array(
        [[5, 5, 5, 30], [5, 5, 40, 5], [112, 5, 150, 30], [-30, -30, -1, -1], [-5, -5, 150, 150]], np.float32
    )
    (found,) = predictor.predict_masks(picture, boxes, np.zeros(5, np.int32), [View("m", 64)])
    assert found.present.tolist() == [False, False, False, False, True]
    found.check_values()


@pytest.mark.parametrize("labels", [[0, 3, -1], [0, 10**9, -5]])
def test_a_class_that_the_member_does_not_know_has_no_mask(
    predictor: Predictor, picture: np.ndarray, labels: list[int]
) -> None:
    (found,) = predictor.predict_masks(picture, BOXES, np.array(labels), [View("m", 64)])
    assert found.present.tolist() == [True, False, False]


def test_labels_are_the_ensembles(tiny_checkpoint: Path, predictor: Predictor, picture: np.ndarray) -> None:
    wider = Categories((5, 1, 2, 3), ("tram", "bus", "car", "person"))
    other = loaded(tiny_checkpoint, categories=wider)
    names = ["car", "bus", "tram"]
    own = np.array([CATEGORIES.names.index(name) if name in CATEGORIES.names else -1 for name in names])
    mapped = np.array([wider.names.index(name) for name in names])
    (expected,) = predictor.predict_masks(picture, BOXES, own, [View("m", 64)])
    (found,) = other.predict_masks(picture, BOXES, mapped, [View("m", 64)])
    assert found.present.tolist() == [True, True, False]
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[0, 0, 1, 1]], LABELS[:1], r"boxes: expected a float32 array \(N, 4\); got list"),
        (BOXES.astype(np.float64), LABELS, r"boxes: expected a float32 array \(N, 4\); got float64 \(3, 4\)"),
        (BOXES[:, :3], LABELS, r"boxes: expected .*; got float32 \(3, 3\)"),
        (BOXES * np.float32(np.nan), LABELS, r"boxes: expected finite numbers; got \[nan"),
        (BOXES[:, [2, 1, 0, 3]], LABELS, r"boxes: expected x1 <= x2 and y1 <= y2; got \[40\.0, 5\.0, 5\.0, 30\.0\]"),
        (BOXES, LABELS[:2], r"labels: expected an integer array \(3,\), one for each box; got int32 \(2,\)"),
        (BOXES, LABELS.astype(float), r"labels: expected an integer array \(3,\), .*; got float64 \(3,\)"),
        (BOXES, [0, 1, 2], r"labels: .*; got list"),
    ],
)
def test_boxes_and_labels_of_another_form_are_refused(
    predictor: Predictor, picture: np.ndarray, boxes: object, labels: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict_masks(picture, boxes, labels, [View("m", 64)])


@pytest.mark.parametrize("mask", [None, {"only_in_training": True}])
def test_a_member_without_masks_says_so(tmp_path: Path, picture: np.ndarray, mask: object) -> None:
    save_tiny_checkpoint(tmp_path, detector={**TINY_DETECTOR, "mask": mask})
    with pytest.raises(InputError, match=r"^member: expected one that predicts masks; got a detector without"):
        Predictor.from_checkpoint(tmp_path, device="cpu").predict_masks(picture, BOXES, LABELS, [View("m", 64)])


def test_many_boxes_are_looked_at_some_at_a_time(
    predictor: Predictor, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, [80, 50], (23, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 30, (23, 2))], axis=1).astype(np.float32)
    labels, views = np.arange(23) % 4, [View("m", 64), View("m", 64, crop=CROP)]
    together = predictor.predict_masks(picture, boxes, labels, views)
    monkeypatch.setattr("tis_ray.inference.given_boxes.BOXES_AT_ONCE", 5)
    with counted(predictor) as runs:
        apart = predictor.predict_masks(picture, boxes, labels, views)
    assert runs["backbone"] == 2
    assert runs["mask head"] > 4
    for one, other in zip(apart, together, strict=True):
        assert_same(one, other, atol=1e-2)


def test_nothing_given_is_changed(predictor: Predictor, picture: np.ndarray) -> None:
    given = [picture.copy(), BOXES.copy(), LABELS.copy()]
    for one in given:
        one.setflags(write=False)
    predictor.predict_masks(given[0], given[1], given[2], [View("m", 64, flip=True)])
    for one, before in zip(given, (picture, BOXES, LABELS), strict=True):
        np.testing.assert_array_equal(one, before)


# ----------------------------------------------------------------------------------------------------------- Memory

VIEWS = [View("m", 64), View("m", 96, flip=True), View("m", 64, flip=True), View("m", 48, tile=(64, 48, 20))]


@pytest.mark.parametrize("first", ["predict", "remember"])
def test_remembered_features_are_not_computed_again_and_say_the_same(
    tiny_checkpoint: Path, picture: np.ndarray, first: str
) -> None:
    predictor = loaded(tiny_checkpoint)
    fresh = predictor.predict_masks(picture, BOXES, LABELS, VIEWS)
    if first == "predict":
        predictor.predict(picture, VIEWS, masks=False, remember="key")
    else:
        predictor.remember(picture, VIEWS, "key")
    with counted(predictor) as runs:
        recalled = predictor.predict_masks(picture, BOXES, LABELS, list(reversed(VIEWS)), recall="key")[::-1]
    assert set(runs) == {"mask head"}
    for one, other in zip(recalled, fresh, strict=True):
        assert_same(one, other)


def test_remembering_runs_the_backbone_alone(tiny_checkpoint: Path, picture: np.ndarray) -> None:
    predictor = loaded(tiny_checkpoint)
    with counted(predictor) as runs:
        predictor.remember(picture, VIEWS[:2], "key")
    assert runs == {"backbone": 2}


@pytest.mark.parametrize("held", ["nothing", "half"])
def test_what_is_gone_is_computed_again_and_says_the_same(
    tiny_checkpoint: Path, picture: np.ndarray, held: str
) -> None:
    probe = FeatureMemory()
    loaded(tiny_checkpoint, memory=probe).remember(picture, VIEWS, "key")
    memory = FeatureMemory(max_bytes=0 if held == "nothing" else int(0.7 * probe.nbytes))
    predictor = loaded(tiny_checkpoint, memory=memory)
    fresh = predictor.predict_masks(picture, BOXES, LABELS, VIEWS)
    predictor.remember(picture, VIEWS, "key")
    with counted(predictor) as runs:
        recalled = predictor.predict_masks(picture, BOXES, LABELS, VIEWS, recall="key")
    for one, other in zip(recalled, fresh, strict=True):
        assert_same(one, other)
    assert 0 < runs["backbone"] < 3 if held == "half" else runs["backbone"] == 3


def test_another_key_or_none_recalls_nothing(tiny_checkpoint: Path, picture: np.ndarray) -> None:
    predictor = loaded(tiny_checkpoint)
    predictor.remember(picture, VIEWS[:1], "key")
    for recall in ("other", None):
        with counted(predictor) as runs:
            predictor.predict_masks(picture, BOXES, LABELS, VIEWS[:1], recall=recall)
        assert runs["backbone"] == 1
    predictor.memory.forget("key")
    assert predictor.memory.nbytes == 0


def test_one_detection_asked_by_index_is_one_of_all(predictor: Predictor, picture: np.ndarray) -> None:
    (own,) = predictor.predict(picture, [View("m", 80)])
    best: Instances = own[:1]
    (mask,) = predictor.predict_masks(picture, best.boxes, best.labels, [View("m", 80)])
    assert_same(mask, own.masks[:1], atol=2e-3)
