"""Overlay pictures: colour only where something was found, legible labels, a legend below."""

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import InputError
from tis_ray.instances import Annotations, Categories, Instances
from tis_ray.masks import BoxMasks, CropMasks
from tis_ray.overlay import colour_of, draw_overlay, found_of, true_of

GREY = np.full((120, 160, 3), 128, dtype=np.uint8)


def _found(x: int, y: int, w: int, h: int, *, category: str = "car", score: float = 0.9, mask: bool = True) -> dict:
    one = {"category": category, "score": score, "bbox": [x, y, w, h]}
    if not mask:
        return one
    rle = CropMasks(np.array([[x, y]], np.int32), (np.ones((h, w), np.uint8),)).to_rle(120, 160)[0]
    return {**one, "segmentation": rle}


def _changed(picture: Image.Image) -> np.ndarray:
    return (np.asarray(picture)[:120] != GREY).any(axis=2)


def test_a_mask_is_blended_in_its_place_with_a_contour_around_it():
    picture = np.asarray(draw_overlay(GREY, [_found(60, 50, 60, 60)], categories=["car"]))
    colour = np.array(colour_of("car", ["car"]))
    assert np.array_equal(picture[49, 90], colour)  # just outside of the mask
    assert np.array_equal(picture[109, 119], (128 * 0.55 + colour * 0.45).astype(np.uint8))
    assert np.array_equal(picture[111:120, :40], GREY[111:, :40])


def test_the_input_image_is_left_alone():
    image = GREY.copy()
    image.flags.writeable = False
    draw_overlay(image, [_found(10, 10, 40, 40)])
    assert np.array_equal(image, GREY)


def test_nothing_found_leaves_the_picture_and_says_so():
    picture = draw_overlay(GREY, [])
    assert not _changed(picture).any()
    assert picture.width == 160
    assert picture.height > 120


def test_instances_below_the_threshold_are_not_shown():
    weak = _found(10, 10, 40, 40, score=0.29)
    assert not _changed(draw_overlay(GREY, [weak])).any()
    assert _changed(draw_overlay(GREY, [weak], score_threshold=0.29)).any()


def test_without_a_mask_the_box_is_drawn():
    picture = np.asarray(draw_overlay(GREY, [_found(20, 30, 100, 80, mask=False)], categories=["car"]))
    assert np.array_equal(picture[30, 115], colour_of("car", ["car"]))
    assert np.array_equal(picture[90, 100], GREY[90, 100])


def test_labels_do_not_cover_tiny_objects():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, [150, 110], (40, 2))
    found = [_found(int(x), int(y), 6, 5, score=float(rng.uniform(0.3, 1))) for x, y in corners]
    picture = np.asarray(draw_overlay(GREY, found, categories=["car"]))
    inside = np.zeros((120, 160), dtype=bool)
    for x, y in corners:
        inside[y : y + 5, x : x + 6] = True
    plate = np.array(colour_of("car", ["car"]))
    labelled = (picture[:120] == (20, 20, 20)).all(axis=2)  # the ink of letters
    assert labelled.any()
    assert not (labelled & inside).any()
    assert ((picture[:120] == plate).all(axis=2) & ~inside).any()


@pytest.mark.parametrize(
    "place", [(0, 0, 160, 120), (0, 0, 1, 1), (159, 119, 1, 1), (0, 118, 160, 2), (157, 0, 3, 120)]
)
@pytest.mark.parametrize("mask", [True, False])
def test_objects_at_the_borders_are_drawn(place, mask):
    assert _changed(draw_overlay(GREY, [_found(*place, mask=mask)])).any()


def test_an_empty_mask_is_no_error():
    empty = CropMasks(np.zeros((1, 2), np.int32), (np.zeros((0, 0), np.uint8),)).to_rle(120, 160)[0]
    draw_overlay(GREY, [{"category": "car", "score": 0.5, "bbox": [1, 2, 0, 0], "segmentation": empty}])


def test_lines_and_letters_grow_with_the_picture():
    heights = []
    for scale in (1, 20):
        image = np.zeros((120 * scale, 160 * scale, 3), np.uint8)
        heights.append(draw_overlay(image, []).height - 120 * scale)
    assert heights[1] > 2 * heights[0] > 20


def test_the_picture_is_reduced_to_max_side():
    picture = draw_overlay(np.zeros((1000, 3000, 3), np.uint8), [], max_side=600)
    assert picture.width == 600
    assert draw_overlay(GREY, [], max_side=600).width == 160


def test_a_legend_of_many_classes_takes_several_rows():
    one = draw_overlay(GREY, [_found(10, 10, 5, 5)])
    many = draw_overlay(GREY, [_found(10, 10, 5, 5, category=f"class number {i}") for i in range(12)])
    assert many.height > one.height + 50


def test_colours_follow_the_class_and_differ_between_the_first_21():
    names = [f"class {i}" for i in range(30)]
    assert len({colour_of(name, names) for name in names[:21]}) == 21
    assert colour_of("a", ["a", "b"]) == colour_of("x", ["x"])
    assert colour_of("car") == colour_of("car", ["truck"])  # by name alone
    found = [_found(60, 50, 60, 60, category="truck")]
    table = Categories((3, 8), ("car", "truck"))
    by_table, by_names = draw_overlay(GREY, found, categories=table), draw_overlay(GREY, found, categories=table.names)
    assert by_table.tobytes() == by_names.tobytes()


def test_predictions_take_the_same_path():
    boxes = np.array([[20, 30, 60, 70]], dtype=np.float32)
    instances = Instances.of(boxes, [0.75], [1], BoxMasks(boxes, np.ones((1, 28, 28), np.float16)))
    (one,) = found_of(instances, categories=Categories((3, 8), ("car", "truck")), size_hw=(120, 160))
    assert (one["category"], one["score"], one["bbox"]) == ("truck", 0.75, [20, 30, 40, 40])
    assert _changed(draw_overlay(GREY, [one]))[32:68, 22:58].all()


def test_dataclasses_are_drawn_like_mappings():
    @dataclass(frozen=True, slots=True)
    class Answer:
        category: str
        score: float
        bbox: tuple[float, ...]
        segmentation: dict | None

    one = _found(30, 40, 20, 20)
    same = Answer(one["category"], one["score"], tuple(one["bbox"]), one["segmentation"])
    assert draw_overlay(GREY, [same]).tobytes() == draw_overlay(GREY, [one]).tobytes()


RLE = {"size": [160, 120], "counts": [160 * 120]}


@pytest.mark.parametrize(
    ("image", "one", "message"),
    [
        (GREY[:, :, 0], None, r"image: expected uint8 \(H, W, 3\); got uint8 \(120, 160\)"),
        (GREY.astype(np.float32), None, r"image: .* got float32"),
        (GREY, 7, r"found\[0\]: expected a mapping or a dataclass; got int"),
        (GREY, {"category": "car", "bbox": [1, 2, 3, 4]}, r"found\[0\]: expected .* got no score"),
        (GREY, {"category": "car", "score": 1, "bbox": [1, 2, -3, 4]}, r"found\[0\].bbox: .* got \[1, 2, -3, 4\]"),
        (
            GREY,
            {"category": "car", "score": 1, "bbox": [1, 2, 3, 4], "segmentation": RLE},
            r"found\[0\].segmentation: .* got \[160, 120\]",
        ),
    ],
    ids=["grey", "float", "a number", "no score", "negative box", "mask of another size"],
)
def test_wrong_input_is_named(image, one, message):
    with pytest.raises(InputError, match=message):
        draw_overlay(image, [] if one is None else [one])


def test_what_is_truly_there_is_drawn_at_any_threshold_and_without_scores():
    crops = np.ones((20, 30), np.uint8), np.ones((20, 20), np.uint8)
    masks = CropMasks(np.array([[20, 60], [90, 10]], np.int32), crops)
    truth = Annotations(masks.boxes(), np.array([0, -1], np.int32), masks, np.array([False, True]))
    there = true_of(truth, categories=Categories((7,), ("car",)), size_hw=(120, 160))
    assert [one["category"] for one in there] == ["car", "any class (ignored)"]
    assert there[0]["bbox"] == [20, 60, 30, 20]
    shown = _changed(draw_overlay(GREY, there, categories=["car"], score_threshold=1.0))
    assert shown[60:80, 20:50].all()
    assert shown[10:30, 90:110].all()
    car, scored = (_changed(draw_overlay(GREY, [there[0] | {"score": score}])) for score in (None, 1.0))
    assert car.sum() < scored.sum(), "a name is shorter than a name with a score"
