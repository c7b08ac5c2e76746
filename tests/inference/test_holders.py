"""Which piece of the image speaks for a box."""

import numpy as np
import pytest

from tis_ray.inference.holders import holders_of
from tis_ray.views import View

HW = (120, 220)
WHOLE = View("m", 80)
STRIP = View("m", 50, crop=(20, 30, 200, 80))
GRID = View("m", 80, tile=(100, 80, 40))


def holder(box: tuple[float, ...], view: View) -> int:
    (found,) = holders_of(np.array([box], np.float32), view.tiles(HW), HW).tolist()
    return int(found)


@pytest.mark.parametrize(
    ("box", "held"),
    [
        ((30, 40, 60, 60), True),
        ((20, 30, 200, 80), True),
        ((19.6, 29.6, 200.4, 80.4), True),  # less than half a pixel beyond
        ((19.4, 40, 60, 60), False),
        ((30, 29.4, 60, 60), False),
        ((30, 40, 200.6, 60), False),
        ((30, 40, 60, 80.6), False),
        ((0, 0, 220, 120), False),
        ((201, 81, 210, 90), False),
    ],
)
def test_a_crop_speaks_for_what_lies_in_it(box: tuple[float, ...], held: bool) -> None:
    assert (holder(box, STRIP) == 0) == held
    assert holder(box, WHOLE) == 0


def test_an_edge_of_the_image_cuts_nothing() -> None:
    corner = View("m", 50, crop=(100, 60, 400, 400))
    assert holder((150, 90, 230, 130), corner) == 0
    assert holder((99, 90, 230, 130), corner) == -1
    assert holder((-5, -5, 300, 300), WHOLE) == 0


@pytest.mark.parametrize(
    "box", [(30, 30, 30, 60), (30, 30, 60, 30), (220, 10, 230, 20), (-9, 10, 0, 20), (10, 120, 20, 130)]
)
def test_a_box_without_area_in_the_image_is_held_by_none(box: tuple[float, ...]) -> None:
    assert holder(box, WHOLE) == holder(box, GRID) == -1


def test_of_several_tiles_the_one_with_most_room_around_the_box_speaks() -> None:
    """Against a loop over boxes and tiles: the least distance to an edge that is none of the image's."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, [180, 90], (300, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(1, 60, (300, 2))], axis=1).astype(np.float32)
    tiles = GRID.tiles(HW)
    assert len(tiles) == 6
    found = holders_of(boxes, tiles, HW).tolist()
    assert {-1, 0, 5} <= set(found)
    for box, got in zip(boxes.astype(np.float64).tolist(), found, strict=True):
        rooms = []
        for tile in tiles:
            (x1, y1, x2, y2), room = tile.crop, [np.inf]
            room += [box[0] - x1] if x1 > 0 else []
            room += [box[1] - y1] if y1 > 0 else []
            room += [x2 - box[2]] if x2 < 220 else []
            room += [y2 - box[3]] if y2 < 120 else []
            rooms.append(min(room))
        best = int(np.argmax(rooms))
        assert got == (best if rooms[best] >= -0.5 else -1)


def test_no_boxes_and_no_tiles() -> None:
    assert holders_of(np.zeros((0, 4), np.float32), GRID.tiles(HW), HW).tolist() == []
    missed = View("m", 50, crop=(500, 500, 600, 600))
    assert holder((10, 10, 20, 20), missed) == -1
