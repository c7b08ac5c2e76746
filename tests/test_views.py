"""A view and its inverse: known answers, and round trips over sizes, scales, flips and crops."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tis_ray.errors import InputError
from tis_ray.views import View, resized_hw

EDGE = st.integers(1, 3000)
CROP = st.one_of(
    st.just(()), st.tuples(st.integers(-50, 500), st.integers(-50, 500), st.integers(1, 3000), st.integers(1, 3000))
)
VIEW = st.builds(
    View, st.just("m"), st.integers(1, 2000), st.booleans(), CROP, st.one_of(st.none(), st.integers(1, 3000))
)
UNIT_BOXES = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5)


def boxes_in(unit, x1, y1, x2, y2):
    """Boxes inside a region from pairs of numbers in 0..1."""
    points = np.array(unit, dtype=np.float32).reshape(-1, 2, 2)
    points = np.sort(points, axis=1) * [x2 - x1, y2 - y1] + [x1, y1]
    return points.reshape(-1, 4).astype(np.float32)


# ------------------------------------------------------------------------------------------- Known answers


@pytest.mark.parametrize(
    ("size_hw", "short", "cap", "expected"),
    [
        ((480, 640), 1200, 1400, (1050, 1400)),
        ((480, 640), 400, 1400, (400, 533)),
        ((480, 640), 1600, 1867, (1400, 1867)),
        ((640, 480), 400, None, (533, 400)),
        ((2710, 3384), 800, 1333, (800, 999)),
        ((3, 3000), 1, None, (1, 1000)),
        ((3, 3000), 800, 1000, (1, 1000)),
    ],
)
def test_resized_hw(size_hw, short, cap, expected):
    assert resized_hw(size_hw, short, cap) == expected


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((2710, 3384), (1440, 6768)), ((1610, 3384), (100, 6768)), ((1561, 100), (2, 200)), ((4000, 5000), (1440, 6768))],
)
def test_a_crop_is_resized_by_the_same_factors_however_much_of_it_there_is(size_hw, expected):
    assert View("m", 1440, crop=(0, 1560, 3384, 2280)).network_hw(size_hw) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(View("m", 400), 0.5, id="whole"),
        pytest.param(View("m", 400, flip=True, max_long_edge=300), 0.3, id="capped"),
        pytest.param(View("m", 3), 3 / 800, id="few pixels"),
        pytest.param(View("m", 400, crop=(100, 100, 300, 200)), 4, id="crop"),
        pytest.param(View("m", 400, crop=(900, 100, 1100, 200)), 4, id="crop that ends outside"),
        pytest.param(View("m", 400, crop=(1000, 100, 1100, 200)), None, id="crop that misses the image"),
        pytest.param(View("m", 400, tile=(200, 200, 50)), 2, id="grid"),
        pytest.param(View("m", 400, tile=(1600, 1600, 50)), 0.5, id="one tile, as large as the image"),
    ],
)
def test_resize_factor_is_that_of_the_rounded_sizes(view, expected):
    factor = view.resize_factor((800, 1000))
    assert factor == (None if expected is None else pytest.approx(expected, rel=0.07 if view.scale == 3 else 1e-3))
    if factor is not None:
        moved = view.tiles((800, 1000))[0]
        x1, y1, *_ = moved.region((800, 1000))
        box = moved.boxes_to_network(np.array([[x1, y1, x1 + 10, y1 + 10]], np.float32), (800, 1000))[0]
        assert factor == pytest.approx(np.sqrt((box[2] - box[0]) * (box[3] - box[1])) / 10, rel=1e-5)


def test_a_flip_mirrors_a_box_about_the_width():
    view = View("m", 50, flip=True)
    box = np.array([[10, 5, 30, 20]], np.float32)
    assert view.boxes_to_network(box, (50, 100)).tolist() == [[70, 5, 90, 20]]
    assert view.boxes_to_image(np.array([[70, 5, 90, 20]], np.float32), (50, 100)).tolist() == box.tolist()


def test_a_flip_is_undone_in_the_network_frame_before_scale_and_crop():
    view = View("m", 100, flip=True, crop=(20, 10, 120, 60))  # 100 x 50 px at twice the size
    network = view.boxes_to_network(np.array([[30, 20, 50, 40]], np.float32), (200, 200))
    assert view.network_hw((200, 200)) == (100, 200)
    assert network.tolist() == [[140, 20, 180, 60]]
    assert view.boxes_to_image(network, (200, 200)).tolist() == [[30, 20, 50, 40]]


def test_factors_come_from_the_rounded_sizes():
    view = View("m", 400)
    network = view.boxes_to_network(np.array([[0, 0, 640, 480]], np.float32), (480, 640))
    assert network.tolist() == [[0, 0, 533, 400]]  # 640 * 400 / 480 would be 533.33


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (View("r50", 800), "r50@800"),
        (View("r50", 800, True), "r50@800/flip"),
        (View("r50", 800, True, (0, 1560, 3384, 2280)), "r50@800/flip/crop=0,1560,3384,2280"),
    ],
)
def test_names(view, name):
    assert view.name == name
    assert view.key == "r50@800"


def test_views_have_one_order():
    views = [View("b", 400), View("a", 800), View("a", 400, True), View("a", 400)]
    assert sorted(views) == [View("a", 400), View("a", 400, True), View("a", 800), View("b", 400)]
    assert len({View("a", 400), View("a", 400)}) == 1


@pytest.mark.parametrize(
    ("crop", "region"),
    [((), (0, 0, 30, 20)), ((5, 5, 10, 10), (5, 5, 10, 10)), ((-5, 10, 99, 99), (0, 10, 30, 20))],
)
def test_a_region_is_clipped_to_the_image(crop, region):
    assert View("m", 10, crop=crop).region((20, 30)) == region


@pytest.mark.parametrize("crop", [(30, 0, 40, 10), (0, 25, 10, 40), (5, 5, 5, 9)])
def test_a_crop_that_misses_the_image_is_refused(crop):
    with pytest.raises(InputError, match=r"crop of view m@10/crop=.*expected a box that meets the 30x20 image"):
        View("m", 10, crop=crop).region((20, 30))


def test_a_grid_and_a_crop_are_named_by_the_ensemble():
    grid = View("r50", 512, True, tile=(1024, 768, 128), crop_name="grid")
    assert grid.key == "r50@512.grid"
    assert grid.name == "r50@512.grid/flip/tiles=1024,768,128"
    assert View("r50", 720, crop=(0, 5, 9, 9), crop_name="strip").name == "r50@720.strip/crop=0,5,9,9"


# ------------------------------------------------------------------------------------------------------- Tiles


@pytest.mark.parametrize(
    ("tile", "size_hw", "columns", "rows"),
    [
        pytest.param((100, 80, 40), (80, 220), [0, 60, 120], [0], id="three in a row"),
        pytest.param((100, 80, 0), (160, 300), [0, 100, 200], [0, 80], id="without overlap"),
        pytest.param((100, 80, 0), (81, 101), [0, 1], [0, 1], id="a pixel too many"),
        pytest.param((1024, 1024, 200), (2710, 3384), [0, 786, 1573, 2360], [0, 562, 1124, 1686], id="a WAD frame"),
        pytest.param((100, 80, 40), (20, 100), [0], [0], id="less than a tile"),
    ],
)
def test_tiles_spread_evenly(tile, size_hw, columns, rows):
    tiles = View("m", 64, True, (), 900, "grid", tile, True).tiles(size_hw)
    width, height = min(tile[0], size_hw[1]), min(tile[1], size_hw[0])
    expected = [(x, y, x + width, y + height) for y in rows for x in columns]
    assert tiles == tuple(View("m", 64, True, crop, 900, "grid", (), True) for crop in expected)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(8, 600), st.integers(8, 600), st.floats(0, 0.5))
def test_tiles_cover_every_pixel_equally_large_and_share_the_overlap(height, width, tile_width, tile_height, share):
    overlap = int(share * min(tile_width, tile_height))
    crops = np.array([t.crop for t in View("m", 9, tile=(tile_width, tile_height, overlap)).tiles((height, width))])
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 2:] <= [width, height]).all()
    assert (crops[:, 2:] - crops[:, :2] == [min(tile_width, width), min(tile_height, height)]).all()
    assert len(np.unique(crops, axis=0)) == len(crops)
    for axis, edge in enumerate((width, height)):
        spans = np.unique(crops[:, [axis, axis + 2]], axis=0)
        seen = np.zeros(edge, dtype=bool)
        for start, end in spans:
            seen[start:end] = True
        assert seen.all()
        assert (spans[:-1, 1] - spans[1:, 0] >= overlap).all()
    # A grid and not just its rows and columns: every start in x with every start in y.
    assert len(crops) == len(np.unique(crops[:, 0])) * len(np.unique(crops[:, 1]))


def test_a_view_without_a_grid_is_its_own_tile():
    for view in (View("m", 64), View("m", 64, crop=(5, 5, 20, 20))):
        assert view.tiles((10, 10)) == (view,)


@pytest.mark.parametrize("crop", [(30, 0, 40, 10), (0, 25, 10, 40), (5, 5, 5, 9)])
def test_a_crop_that_misses_the_image_has_no_tiles(crop):
    assert View("m", 10, crop=crop).tiles((20, 30)) == ()


@pytest.mark.parametrize("ask", ["region", "network_hw"])
def test_a_grid_is_asked_tile_by_tile(ask):
    with pytest.raises(InputError, match=r"view m@10/tiles=4,4,1: expected one of its tiles; got the grid"):
        getattr(View("m", 10, tile=(4, 4, 1)), ask)((20, 30))


WHOLE, GRID, LARGER, TALLER = (View("m", 9, tile=t) for t in [(), (40, 40, 9), (60, 40, 0), (30, 90, 0)])
CROP, AROUND, ASIDE = (View("m", 9, crop=c) for c in [(10, 10, 50, 50), (10, 5, 50, 50), (5, 20, 90, 90)])


@pytest.mark.parametrize(
    ("view", "others"),
    [
        pytest.param(WHOLE, [], id="nothing is cut by the whole image"),
        pytest.param(GRID, [WHOLE, LARGER], id="a grid"),
        pytest.param(LARGER, [WHOLE], id="a grid of larger tiles"),
        pytest.param(CROP, [WHOLE, GRID, LARGER, TALLER, AROUND], id="a crop"),
        pytest.param(AROUND, [WHOLE, GRID, LARGER, TALLER], id="a crop around it"),
    ],
)
def test_who_looks_across_the_edges_of_a_view(view, others):
    everyone = [WHOLE, GRID, LARGER, TALLER, CROP, AROUND, ASIDE, View("m", 9, True, CROP.crop)]
    assert [other for other in everyone if other.looks_across(view)] == others


# --------------------------------------------------------------------------------------------- Round trips


@settings(deadline=None)
@given(VIEW, EDGE, EDGE, UNIT_BOXES)
def test_boxes_come_back(view, height, width, unit):
    x1, y1, x2, y2 = view.crop or (0, 0, 1, 1)
    assume(x1 < min(x2, width) and y1 < min(y2, height))
    boxes = boxes_in(unit, *view.region((height, width)))
    network_hw = view.network_hw((height, width))
    network = view.boxes_to_network(boxes, (height, width))
    assert network.shape == boxes.shape
    assert network.dtype == np.float32
    # A pixel of rounding in the network is as many image pixels as the resize shrinks by.
    region = view.region((height, width))
    shrink = max((region[2] - region[0]) / network_hw[1], (region[3] - region[1]) / network_hw[0], 1)
    tolerance = 1e-6 * max(*network_hw, 3000) * shrink
    back = view.boxes_to_image(network, (height, width))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, atol=tolerance)


@settings(deadline=None)
@given(VIEW, EDGE, EDGE, UNIT_BOXES)
def test_boxes_of_the_region_lie_in_the_network_frame_and_stay_upright(view, height, width, unit):
    x1, y1, x2, y2 = view.crop or (0, 0, 1, 1)
    assume(x1 < min(x2, width) and y1 < min(y2, height))
    network_hw = view.network_hw((height, width))
    network = view.boxes_to_network(boxes_in(unit, *view.region((height, width))), (height, width))
    slack = 1e-5 * max(network_hw)
    assert (network >= -slack).all()
    assert (network <= np.array([*network_hw[::-1]] * 2) + slack).all()
    assert (network[:, 2:] >= network[:, :2]).all()


@settings(deadline=None)
@given(EDGE, EDGE, st.integers(1, 1600), st.one_of(st.none(), st.integers(1, 2000)))
def test_resizing_keeps_within_both_edges(height, width, short, cap):
    new = resized_hw((height, width), short, cap)
    assert min(new) <= max(short, 1)
    assert cap is None or max(new) <= cap
    assert (new[0] >= new[1]) if height > width else (new[0] <= new[1]) or height == width


@settings(deadline=None)
@given(st.booleans(), st.integers(0, 3))
def test_patches_come_back(flip, count):
    patches = np.arange(count * 9, dtype=np.float16).reshape(count, 3, 3)
    view = View("m", 10, flip)
    np.testing.assert_array_equal(view.patches_to_image(view.patches_to_image(patches)), patches)


@pytest.mark.parametrize("crop", [(), (8, 4, 40, 28)])
@pytest.mark.parametrize("flip", [False, True])
def test_boxes_follow_the_pixels(flip, crop):
    """A bright rectangle, resized and mirrored by PyTorch as a member sees it, lies where the view says."""
    image = np.zeros((32, 48), np.float32)
    image[10:20, 12:22] = 1
    view = View("m", 64, flip, crop)
    x1, y1, x2, y2 = view.region((32, 48))
    pixels = torch.from_numpy(image[y1:y2, x1:x2])[None, None]
    pixels = torch.nn.functional.interpolate(pixels, size=view.network_hw((32, 48)), mode="nearest")[0, 0]
    pixels = pixels.flip(-1) if flip else pixels
    seen = torchvision.ops.masks_to_boxes(pixels[None] > 0).numpy() + np.float32([0, 0, 1, 1])
    box = np.array([[12, 10, 22, 20]], np.float32)
    np.testing.assert_allclose(view.boxes_to_network(box, (32, 48)), seen, atol=1)
    np.testing.assert_allclose(view.boxes_to_image(seen, (32, 48)), box, atol=0.5)


def test_inputs_are_left_untouched():
    boxes = np.array([[10, 5, 30, 20]], np.float32)
    boxes.flags.writeable = False
    View("m", 50, flip=True).boxes_to_network(boxes, (50, 100))
    View("m", 50, flip=True).boxes_to_image(boxes, (50, 100))
    assert boxes.tolist() == [[10, 5, 30, 20]]


@pytest.mark.parametrize("flip", [False, True])
def test_no_boxes_stay_none(flip):
    none = np.zeros((0, 4), np.float32)
    assert View("m", 50, flip).boxes_to_network(none, (50, 100)).shape == (0, 4)
    assert View("m", 50, flip).boxes_to_image(none, (50, 100)).shape == (0, 4)
