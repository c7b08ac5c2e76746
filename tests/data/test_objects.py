"""Objects of a data set in their images, and as a network sees them."""

import json

import numpy as np
import pytest

from tis_ray.data.objects import in_network, read_objects
from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.views import View

FRAMES = {1: (100, 200), 2: (90, 60)}
BOXES = [(1, (10, 20, 30, 40)), (1, (199.5, 99, 1.5, 1)), (2, (0, 0, 60, 90)), (2, (3, 4, 5, 6))]


def dataset(folder, boxes=BOXES):
    images = [{"id": id_, "file_name": f"{id_}.png", "height": h, "width": w} for id_, (h, w) in FRAMES.items()]
    annotations = [{"id": i, "image_id": id_, "category_id": 1, "bbox": box} for i, (id_, box) in enumerate(boxes)]
    annotations.append({"id": 90, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1})
    annotations.append({"id": 91, "image_id": 2, "category_id": 1, "bbox": [5, 5, 0, 9]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    (folder / "gt.json").write_text(json.dumps(content))
    return coco.read(folder / "gt.json")


def test_objects_are_cut_to_their_images_and_what_is_none_is_left_out(tmp_path):
    truth = dataset(tmp_path)
    objects = read_objects(truth, truth.images)
    assert objects.boxes.tolist() == [[10, 20, 40, 60], [199.5, 99, 200, 100], [0, 0, 60, 90], [3, 4, 8, 10]]
    assert objects.frames_hw.tolist() == [[100, 200], [100, 200], [90, 60], [90, 60]]
    np.testing.assert_allclose(objects.scales, np.sqrt([1200, 0.5, 5400, 30]))


def test_only_the_images_that_are_asked_for_are_read(tmp_path):
    truth = dataset(tmp_path)
    assert len(read_objects(truth, truth.images[1:])) == 2


@pytest.mark.parametrize("max_long_edge", [None, 130])
def test_the_network_sees_objects_at_each_scale_where_a_view_puts_them(tmp_path, max_long_edge):
    truth = dataset(tmp_path)
    objects = read_objects(truth, truth.images)
    seen = in_network(objects, scales=(50, 77), max_long_edge=max_long_edge)
    views = [View("m", scale, max_long_edge=max_long_edge) for scale in (50, 77)]
    frames = [tuple(frame) for frame in objects.frames_hw.tolist()]
    expected = [
        view.boxes_to_network(objects.boxes[i : i + 1], frame)[0] for view in views for i, frame in enumerate(frames)
    ]
    np.testing.assert_allclose(seen.boxes, expected, rtol=1e-6)
    assert seen.frames_hw.tolist() == [list(view.network_hw(frame)) for view in views for frame in frames]


def test_a_data_set_without_objects_is_refused(tmp_path):
    truth = dataset(tmp_path, boxes=[])
    with pytest.raises(DataError, match=r"gt\.json: expected at least one object with an area; found none"):
        read_objects(truth, truth.images)
