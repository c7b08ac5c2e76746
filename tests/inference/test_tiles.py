"""Crops and grids on real pixels: a detector that finds painted rectangles stands for the model."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.painted import paint, predictor
from tis_ray.config import Ensemble
from tis_ray.fusion.fuse import Fuser
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.inference.tiles import CUT_WITHIN_PX, is_cut, merge_tiles
from tis_ray.instances import Categories, Instances
from tis_ray.views import View

# Tiles of 100 x 80 px at their own size. In 220 x 80 px they start at x = 0, 60 and 120.
GRID = View("m", 80, tile=(100, 80, 40))
FIVE = ((0, 100), (60, 160), (120, 220))
CATEGORIES = Categories((1, 2, 3), ("red", "green", "blue"))


def ensemble_of(**member: object) -> Ensemble:
    return Ensemble.model_validate({"members": {"m": {"checkpoint": "m", "flip": False, **member}}})


def predict(ensemble: Ensemble, picture: np.ndarray) -> tuple[Instances, dict[str, Instances]]:
    """The fused answer, and each view's own by key."""
    whole = EnsemblePredictor({"m": predictor()}, ensemble.views, Fuser(ensemble.fusion), CATEGORIES)
    return whole.predict(picture), {view.key: found for view, found in whole.predict_views(picture).items()}


def found_by(view: View, picture: np.ndarray) -> list[tuple[int, ...]]:
    """Boxes with labels, rounded to pixels, in the order of their places."""
    (found,) = predictor().predict(picture, [view])
    return rounded(found)


def rounded(found: Instances) -> list[tuple[int, ...]]:
    rows = np.column_stack([found.boxes.round(), found.labels]).astype(int)
    return sorted(map(tuple, rows.tolist()))


# -------------------------------------------------------------------------------------------- One object, many tiles


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("size_hw", "rectangle"),
    [
        pytest.param((80, 220), (70, 20, 110, 40, 0), id="whole in the second tile, cut in the first"),
        pytest.param((80, 220), (66, 20, 92, 40, 0), id="whole in two tiles"),
        pytest.param((80, 220), (5, 20, 30, 40, 1), id="in one tile"),
        pytest.param((120, 160), (66, 46, 94, 74, 2), id="in the corner that four tiles share"),
        pytest.param((120, 160), (58, 30, 90, 60, 2), id="whole in one of four tiles, cut in the others"),
        pytest.param((80, 220), (0, 0, 30, 80, 0), id="at three edges of the image, which are no inner ones"),
        pytest.param((80, 220), (190, 50, 220, 80, 0), id="in the image's last corner"),
    ],
)
def test_an_object_no_larger_than_the_overlap_is_found_once_and_whole(size_hw, rectangle, flip, alone):
    view = View("m", 80, flip, tile=GRID.tile, gives_way=not alone)
    assert found_by(view, paint(size_hw, rectangle)) == [rectangle]


def test_an_object_across_three_tiles_comes_from_the_coarser_view_alone():
    ensemble = ensemble_of(scales=[40], crops={"grid": grid_section(100, 80, 40)})
    picture = paint((80, 220), (20, 20, 210, 50, 0), (70, 60, 100, 75, 1))
    fused, views = predict(ensemble, picture)
    assert rounded(views["m@80.grid"]) == [(70, 60, 100, 75, 1)]
    assert rounded(views["m@40"]) == rounded(fused) == [(20, 20, 210, 50, 0), (70, 60, 100, 75, 1)]


def test_pieces_stay_where_nothing_else_looks_across_the_edges():
    """The middle tile sees nothing whole either, and the user hears of the object."""
    fused, _ = predict(ensemble_of(crops={"grid": grid_section(100, 80, 40)}), paint((80, 220), (20, 20, 210, 50, 0)))
    assert rounded(fused) == [(20, 20, 100, 50, 0), (60, 20, 160, 50, 0), (120, 20, 210, 50, 0)]


def test_without_overlap_an_object_on_a_seam_is_in_two_pieces_or_left_to_the_whole_image():
    picture, seam = paint((80, 200), (80, 20, 120, 40, 0)), grid_section(100, 80, 0)
    alone, _ = predict(ensemble_of(crops={"grid": seam}), picture)
    assert rounded(alone) == [(80, 20, 100, 40, 0), (100, 20, 120, 40, 0)]
    beside, views = predict(ensemble_of(scales=[80], crops={"grid": seam}), picture)
    assert rounded(beside) == [(80, 20, 120, 40, 0)]
    assert rounded(views["m@80.grid"]) == []


def grid_section(width: int, height: int, overlap: int) -> dict:
    return {"tiles": {"width": width, "height": height, "overlap": overlap}, "scales": [80]}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_every_object_that_fits_the_overlap_is_found_once_to_a_pixel(data):
    """Any image, grid, scale and flip; objects of three colours, each somewhere in a third of the image of its own."""
    overlap = data.draw(st.integers(30, 60), "overlap")
    width, height = (data.draw(st.integers(2 * overlap, 140), name) for name in ("width", "height"))
    image_hw = (data.draw(st.integers(60, 260), "rows"), data.draw(st.integers(200, 400), "columns"))
    scale = data.draw(st.integers(min(width, height) - 10, 2 * min(width, height)), "scale")
    flip, alone = data.draw(st.booleans(), "flip"), data.draw(st.booleans(), "alone")
    view = View("m", scale, flip, tile=(width, height, overlap), gives_way=not alone)
    network = view.tiles(image_hw)[0].network_hw(image_hw)
    region = view.tiles(image_hw)[0].region(image_hw)
    slack = 1 + CUT_WITHIN_PX * max(region[3] / network[0], region[2] / network[1])
    longest = int(overlap - 2 * slack)
    rectangles = []
    for third, label in enumerate(data.draw(st.permutations([0, 1, 2]))):
        left, right = image_hw[1] * third // 3 + 3, image_hw[1] * (third + 1) // 3 - 3
        w, h = (data.draw(st.integers(6, min(longest, right - left))) for _ in range(2))
        x1, y1 = data.draw(st.integers(left, right - w)), data.draw(st.integers(0, image_hw[0] - h))
        rectangles.append((x1, y1, x1 + w, y1 + h, label))
    (found,) = predictor().predict(paint(image_hw, *rectangles), [view])
    order = np.argsort(found.boxes[:, 0])
    expected = np.array(sorted(rectangles))
    assert found.labels[order].tolist() == expected[:, 4].tolist()
    np.testing.assert_allclose(found.boxes[order], expected[:, :4], atol=0.75)


# ----------------------------------------------------------------------------------- A grid is a view like any other


def test_in_an_image_smaller_than_a_tile_a_grid_is_the_whole_image(tiny_checkpoint, picture):
    from tis_ray.inference.predictor import Predictor

    real = Predictor.from_checkpoint(tiny_checkpoint, device="cpu")
    grid, whole = (View("m", 64, tile=(200, 100, 10), gives_way=True), View("m", 64))
    (tiled,), (plain,) = real.predict(picture, [grid]), real.predict(picture, [whole])
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(tiled, name), getattr(plain, name))
    np.testing.assert_array_equal(tiled.masks.probabilities, plain.masks.probabilities)


@pytest.mark.parametrize("flip", [False, True])
def test_masks_move_with_their_boxes(flip):
    """The detector sets what it sees on the left; that is the right half in the image for a mirrored view."""
    (found,) = predictor().predict(paint((80, 220), (70, 20, 110, 40, 0)), [View("m", 80, flip, tile=GRID.tile)])
    np.testing.assert_array_equal(found.masks.boxes, found.boxes)
    left, right = found.masks.probabilities[0, 0, :2], found.masks.probabilities[0, 0, 2:]
    assert (left.tolist(), right.tolist()) == (([0, 0], [1, 1]) if flip else ([1, 1], [0, 0]))


def test_a_real_detector_answers_from_each_tile_as_from_the_tile_alone(tiny_checkpoint, picture):
    """Against the definition: each tile cut out and predicted by itself, then merged."""
    from tis_ray.inference.predictor import Predictor

    real = Predictor.from_checkpoint(tiny_checkpoint, device="cpu")
    view = View("m", 64, tile=(64, 48, 20))
    (found,) = real.predict(picture, [view])
    tiles, parts = view.tiles((80, 112)), []
    for tile in tiles:
        x1, y1, x2, y2 = tile.crop
        (alone,) = real.predict(np.ascontiguousarray(picture[y1:y2, x1:x2]), [View("m", 64)])
        boxes = alone.boxes + np.array([x1, y1, x1, y1], np.float32)
        parts.append(Instances.of(boxes, alone.scores, alone.labels))
    expected = merge_tiles(tiles, parts, image_hw=(80, 112))
    assert len(tiles) == 9
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_tiles_share_forwards_within_the_pixels_allowed():
    picture = np.zeros((80, 400, 3), np.uint8)  # tiles at 0, 60, ..., 300
    views = [View("m", 80, flip, tile=GRID.tile) for flip in (False, True)]
    for batch_px, batches in [(1, [2] * 6), (4 * 8000, [4, 4, 4]), (10 * 8000, [10, 2]), (10**7, [12])]:
        seen = predictor(batch_px=batch_px)
        seen.predict(picture, views)
        assert [len(sizes) for sizes in seen.detector.batches] == batches
        assert {size for sizes in seen.detector.batches for size in sizes} == {(80, 100)}


@pytest.mark.parametrize("batch_px", [1, 3 * 8000, 10**7])
def test_a_grid_and_its_mirror_image_each_get_their_own_answer(batch_px):
    """Asked together they share forwards; what each finds, and its masks, are those of that view alone."""
    picture = paint((120, 220), (70, 20, 110, 40, 0), (5, 70, 30, 100, 1), (150, 80, 185, 115, 2))
    views = [View("m", 80, flip, tile=GRID.tile) for flip in (True, False)]
    together = predictor(batch_px=batch_px).predict(picture, views)
    for view, found in zip(views, together, strict=True):
        (alone,) = predictor(batch_px=1).predict(picture, [view])
        assert rounded(found) == [(5, 70, 30, 100, 1), (70, 20, 110, 40, 0), (150, 80, 185, 115, 2)]
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_array_equal(found.masks.probabilities, alone.masks.probabilities)
        assert (found.masks.probabilities[:, 0, 0] == (0 if view.flip else 1)).all()


def test_how_tiles_are_batched_changes_nothing():
    picture = paint((120, 160), (58, 30, 90, 60, 2), (5, 70, 30, 100, 0))
    views = [View("m", 60, flip, tile=GRID.tile) for flip in (True, False)]
    singly, together = (predictor(batch_px=px).predict(picture, views) for px in (1, 10**7))
    for one, other in zip(singly, together, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


# --------------------------------------------------------------------------------------------------- One box of it


STRIP = (20, 30, 200, 80)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [25, 50, 73])
def test_a_crop_finds_what_lies_in_it_at_its_place(scale, flip):
    picture = paint((120, 220), (40, 40, 70, 60, 0), (100, 45, 190, 70, 1), (40, 90, 70, 110, 2))
    (found,) = predictor().predict(picture, [View("m", scale, flip, STRIP)])
    assert rounded(found) == [(40, 40, 70, 60, 0), (100, 45, 190, 70, 1)]


def test_what_a_crop_cuts_comes_from_the_view_that_sees_it_whole():
    ensemble = ensemble_of(scales=[120], crops={"strip": {"box": STRIP, "scales": [50]}})
    picture = paint((120, 220), (40, 20, 70, 60, 0), (100, 45, 190, 70, 1), (150, 76, 180, 110, 2))
    fused, views = predict(ensemble, picture)
    assert rounded(views["m@50.strip"]) == [(100, 45, 190, 70, 1)]
    assert rounded(fused) == [(40, 20, 70, 60, 0), (100, 45, 190, 70, 1), (150, 76, 180, 110, 2)]


def test_a_crop_by_itself_keeps_what_it_cuts():
    ensemble = ensemble_of(crops={"strip": {"box": STRIP, "scales": [50]}})
    fused, _ = predict(ensemble, paint((120, 220), (40, 20, 70, 60, 0), (60, 40, 120, 80, 1)))
    assert rounded(fused) == [(40, 30, 70, 60, 0), (60, 40, 120, 80, 1)]


def test_a_crops_edge_at_the_edge_of_the_image_cuts_nothing():
    view = View("m", 80, crop=(0, 30, 220, 500), gives_way=True)
    assert found_by(view, paint((80, 220), (0, 50, 30, 80, 0), (200, 60, 220, 80, 1))) == [
        (0, 50, 30, 80, 0),
        (200, 60, 220, 80, 1),
    ]


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((30, 40, 60, 60), False),
        ((28.1, 38.1, 191.9, 71.9), False),  # 4 network pixels are 8 of the image at half its size
        ((27.9, 40, 60, 60), True),
        ((30, 37.9, 60, 60), True),
        ((30, 40, 192.1, 60), True),
        ((30, 40, 60, 72.1), True),
    ],
)
def test_how_near_an_edge_a_box_is_cut_is_counted_in_network_pixels(box, cut):
    view = View("m", 25, crop=STRIP)
    assert is_cut(np.array([box], np.float32), view, (120, 220)).tolist() == [cut]


def test_a_crop_that_misses_the_image_finds_nothing():
    ensemble = ensemble_of(scales=[80], crops={"strip": {"box": [0, 1560, 3384, 2280], "scales": [80]}})
    fused, views = predict(ensemble, paint((80, 220), (70, 20, 110, 40, 0)))
    assert len(views["m@80.strip"]) == 0
    assert rounded(fused) == [(70, 20, 110, 40, 0)]


def test_nothing_at_all_still_has_masks():
    fused, _ = predict(ensemble_of(crops={"far": {"box": [500, 500, 600, 600], "scales": [80]}}), paint((80, 220)))
    assert len(fused) == len(fused.masks.to_rle(80, 220)) == 0


def test_only_the_pixels_looked_at_are_copied():
    huge = np.broadcast_to(np.full((1, 1, 3), 128, np.uint8), (30_000, 30_000, 3))
    tracemalloc.start()
    try:
        predictor().predict(huge, [View("m", 40, flip, (20_000, 9000, 20_100, 9050)) for flip in (False, True)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


# ---------------------------------------------------------------------------------------------------------- Merging


def instances(*rows: tuple[float, float, float, float, int, float]) -> Instances:
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return Instances.of(table[:, :4], table[:, 5], table[:, 4])


LEFT, RIGHT = View("m", 100, tile=(100, 100, 50)).tiles((100, 150))


def test_a_piece_gives_way_to_a_whole_box_of_its_class_in_another_tile():
    piece, whole = (60, 10, 100, 50, 0, 0.9), (60, 10, 110, 50, 0, 0.3)
    merged = merge_tiles((LEFT, RIGHT), (instances(piece), instances(whole)), image_hw=(100, 150))
    assert merged.boxes.tolist() == [[60, 10, 110, 50]]


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param((60, 10, 110, 50, 1, 0.3), id="of another class"),
        pytest.param((90, 10, 130, 50, 0, 0.3), id="over less than half of it"),
    ],
)
def test_a_piece_stays_beside_another_object(whole):
    piece = (60, 10, 100, 50, 0, 0.9)
    merged = merge_tiles((LEFT, RIGHT), (instances(piece), instances(whole)), image_hw=(100, 150))
    assert len(merged) == 2


def test_a_piece_stays_beside_an_object_in_front_of_it_in_its_own_tile():
    piece, front = (50, 10, 100, 50, 0, 0.9), (40, 10, 90, 90, 0, 0.8)
    merged = merge_tiles((LEFT, RIGHT), (instances(piece, front), instances()), image_hw=(100, 150))
    assert len(merged) == 2


def test_no_tiles_and_empty_tiles_merge_to_nothing():
    assert len(merge_tiles((), (), image_hw=(100, 150))) == 0
    assert len(merge_tiles((LEFT, RIGHT), (instances(), instances()), image_hw=(100, 150))) == 0
