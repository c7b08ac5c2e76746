"""Results files image by image: every instance once, in its image, with its mask or without one."""

import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.results.files import HEIGHT, WIDTH, dense, results_of, write, write_data
from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.results import open_files, per_image
from tis_ray.results import spool as spool_module


def read(folder, data, **contents):
    """Instances by image and file."""
    paths = [write(folder / f"{name}.json", content) for name, content in contents.items()]
    return {record.id: found for record, found in per_image(open_files(paths), coco.read_frames(data))}


def test_images_come_by_id_with_what_each_file_has_of_them(tmp_path):
    data = write_data(tmp_path, ids=(5, 1, 3, 2))
    a, b = results_of(0), results_of(1, ids=(3,))
    found = read(tmp_path, data, a=a, b=b)
    assert list(found) == [1, 2, 3, 5]
    assert [(len(one["a"]), len(one["b"])) for one in found.values()] == [(12, 0), (0, 0), (12, 12), (12, 0)]
    for image_id, by_name in found.items():
        mine = [one for one in a if one["image_id"] == image_id]
        instances = by_name["a"]
        np.testing.assert_array_equal(instances.labels, [[4, 9].index(one["category_id"]) for one in mine])
        np.testing.assert_array_equal(instances.scores, np.float32([one["score"] for one in mine]))
        xywh = np.array([one["bbox"] for one in mine]).reshape(-1, 4)
        np.testing.assert_array_equal(instances.boxes, np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1))
        if mine:
            assert instances.masks.to_rle(HEIGHT, WIDTH) == [one["segmentation"] for one in mine]


def test_a_file_may_have_masks_for_some_results_only(tmp_path):
    results = results_of(0, ids=(1,), count=4)
    del results[0]["segmentation"], results[1]["bbox"]
    results[2]["segmentation"] = None
    found = read(tmp_path, write_data(tmp_path), mixed=results)[1]["mixed"]
    assert found.masks.present.tolist() == [False, True, False, True]
    rles = found.masks.to_rle(HEIGHT, WIDTH)
    assert [rles[1], rles[3]] == [results[1]["segmentation"], results[3]["segmentation"]]
    x, y, w, h = coco_mask.toBbox(results[1]["segmentation"])
    np.testing.assert_array_equal(found.boxes[1], [x, y, x + w, y + h])


def test_the_score_of_a_mask_is_its_box_s_times_a_fit(tmp_path):
    results = results_of(0, ids=(1,), count=4)
    results[0] |= {"score": 0.5, "mask_score": 0.25}
    results[1] |= {"score": 0, "mask_score": 0}
    results[2] |= {"mask_score": None}
    del results[3]["segmentation"]
    found = read(tmp_path, write_data(tmp_path), a=results, b=results_of(0))[1]
    assert found["a"].masks.quality.tolist() == [0.5, 1, 1, 1]
    assert found["b"].masks.quality is None


def test_no_masks_at_all_are_none(tmp_path):
    results = [{key: value for key, value in one.items() if key != "segmentation"} for one in results_of(0)]
    found = read(tmp_path, write_data(tmp_path), boxes=results)
    assert all(by_name["boxes"].masks is None for by_name in found.values())


def test_polygons_and_plain_counts_are_the_pixels_that_pycocotools_makes_of_them(tmp_path):
    base = {"image_id": 1, "category_id": 4, "bbox": [5, 5, 20, 20], "score": 0.5}
    polygons = [[5, 5, 25, 7.5, 20, 25], [30, 30, 40, 30, 40, 40.25, 30, 40]]
    counts = [100, 20, HEIGHT * WIDTH - 120]
    results = [
        {**base, "segmentation": polygons},
        {**base, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}},
    ]
    found = read(tmp_path, write_data(tmp_path), a=results)[1]["a"].masks.to_rle(HEIGHT, WIDTH)
    expected = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    np.testing.assert_array_equal(dense(found[0]), dense(expected))
    assert np.flatnonzero(dense(found[1]).ravel(order="F")).tolist() == list(range(100, 120))


def test_the_data_s_annotations_are_not_looked_at(tmp_path):
    data = write_data(tmp_path, annotations=["anything"], info={"year": 2018})
    assert list(read(tmp_path, data, a=[])) == [1, 3, 5]


DATA = {
    "a list": ([], "data.json: expected an object with images, categories; got a list"),
    "no images": ({"categories": []}, "data.json: images: expected a list; got no such key"),
    "no size": ({"images": [{"id": 1, "height": 3}], "categories": []}, "data.json: image 1: width: expected"),
    "an image twice": (
        {"images": [{"id": 1, "height": 3, "width": 3}] * 2, "categories": []},
        r"data.json: images\[1\]: id: expected each id once",
    ),
    "nameless class": ({"images": [], "categories": [{"id": 1}]}, "data.json: category 1: name: expected a name"),
}


@pytest.mark.parametrize(("content", "message"), DATA.values(), ids=DATA.keys())
def test_wrong_data_is_refused_with_file_entry_and_field(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        coco.read_frames(write(tmp_path / "data.json", content))


def test_memory_follows_one_image_and_not_the_set(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_HELD_BYTES", 1 << 20)
    ids = range(1, 41)
    data = write_data(tmp_path, ids=ids)
    base = {"category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5, "note": "x" * 5000}
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write("[" + ",\n".join(json.dumps({"image_id": i, **base}) for _ in range(100) for i in ids) + "]")
    tracemalloc.start()
    try:
        found = per_image(open_files([path]), coco.read_frames(data))
        assert [len(by_name["long"]) for _, by_name in found] == [100] * 40
        assert tracemalloc.get_traced_memory()[1] < 7e6  # the file has 20 MB
    finally:
        tracemalloc.stop()
