"""The objects of a data set in columns are those of its entries, however it holds them."""

import json

import numpy as np
import pytest

from tis_ray.data.survey import survey
from tis_ray.formats import annotation_cache, coco
from tis_ray.formats.coco_columns import columns_of
from tis_ray.formats.object_table import is_object, object_table
from tis_ray.formats.unlabelled import WithUnlabelled

FIELDS = ("images", "labels", "sides_wh", "areas")


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A data set of 40 images with crowds, boxes without area, areas unknown or 0, and classes that none holds."""
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "cache"))
    chance = np.random.default_rng(0)
    annotations = []
    for i in range(300):
        x, y, w, h = (round(float(value), 2) for value in chance.uniform((0, 0, 2, 2), (60, 40, 39, 19)))
        entry = {"id": i, "image_id": int(chance.integers(5, 40)) * 3, "category_id": int(chance.choice([2, 9, 11]))}
        entry["bbox"] = [x, y, w * (i % 17 > 0), h]
        if i % 3:
            entry["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h]]
        if i % 5:
            entry["area"] = round(w * h / 2, 1) if i % 7 else 0
        if not i % 11:
            entry["iscrowd"] = 1
        annotations.append(entry)
    content = {
        "images": [
            {"id": i * 3, "file_name": f"{i}.jpg", "height": 60, "width": 100 + 20 * (i % 3)} for i in range(39, -1, -1)
        ],
        "categories": [{"id": id_, "name": f"class {id_}"} for id_ in (11, 9, 4, 2)],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path / "instances.json"


def _cached(path):
    annotation_cache.read(path, least_bytes=0)
    found = annotation_cache.read(path, least_bytes=0)
    assert found.columns is not None
    return found


def test_rows_are_the_objects_in_the_order_of_images_and_entries(path):
    truth = coco.read(path)
    table = object_table(truth)
    rows = [(i, e) for i, record in enumerate(truth.images) for e in truth.entries(record.id) if is_object(e)]
    assert 200 < len(table) == len(rows) < 300
    assert table.images.tolist() == [i for i, _ in rows]
    assert [truth.categories.ids[label] for label in table.labels] == [entry["category_id"] for _, entry in rows]
    assert table.sides_wh.tolist() == [entry["bbox"][2:] for _, entry in rows]
    np.testing.assert_array_equal(table.areas, [entry.get("area", np.nan) for _, entry in rows])


def test_columns_give_the_same_rows(path):
    expected, found = object_table(coco.read(path)), object_table(_cached(path))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
        assert getattr(found, field).dtype == getattr(expected, field).dtype


def test_unlabelled_boxes_leave_the_columns_in_sight(path):
    truth = _cached(path)
    assert object_table(WithUnlabelled(truth, {})).images.tolist() == object_table(truth).images.tolist()
    assert columns_of(WithUnlabelled(truth, {})) is truth.columns
    assert columns_of(WithUnlabelled(coco.read(path), {})) is None


def test_some_of_the_images(path):
    for truth in (coco.read(path), _cached(path)):
        whole, part = object_table(truth), object_table(truth, truth.images[10:20])
        inside = (whole.images >= 10) & (whole.images < 20)
        np.testing.assert_array_equal(part.images + 10, whole.images[inside])
        np.testing.assert_array_equal(part.sides_wh, whole.sides_wh[inside])


def test_a_survey_of_columns_is_that_of_entries_to_the_bit(path):
    expected = survey(coco.read(path), scales=(50, 80), max_long_edge=130)
    assert survey(_cached(path), scales=(50, 80), max_long_edge=130) == expected
    assert expected[0].counts[1] == 0
    assert len(set(expected[0].area_ratios)) == 4


def test_no_objects_at_all(path):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": []}))
    for truth in (coco.read(path), _cached(path)):
        assert len(object_table(truth)) == 0
        categories, sizes = survey(truth, scales=(50,), max_long_edge=None)
        assert (categories.counts, categories.image_shares, categories.area_ratios, sizes) == (
            (0,) * 4,
            (0,) * 4,
            (),
            None,
        )
