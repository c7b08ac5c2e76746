"""LVIS's federated annotations: which classes somebody looked for in an image."""

import json
import os
from pathlib import Path

import pytest

from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.dataset import Federated

NAMES = ("annotated", "annotated in part", "absent", "unknown", "said twice")


def _write(folder: Path, **lists: object) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30, **lists}],
        "categories": [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(NAMES)],
        "annotations": [
            {"id": id_, "image_id": 1, "category_id": category_id, "bbox": [1, 2, 3, side]}
            for id_, category_id, side in ((1, 10, 4), (2, 20, 4), (3, 50, 0))
        ],
    }
    path = folder / "lvis.json"
    path.write_text(json.dumps(content))
    return path


def test_a_class_is_verified_where_it_is_absent_or_annotated_to_the_last_object(tmp_path):
    path = _write(tmp_path, neg_category_ids=[30, 50], not_exhaustive_category_ids=[20])
    dataset = coco.read(path)
    assert dataset.image(1).federated == Federated((30, 50), (20,))
    unverified = dataset.annotations(1).unverified
    assert [name for name, unknown in zip(NAMES, unverified, strict=True) if unknown] == [
        "annotated in part",
        "unknown",
    ]


def test_where_there_are_no_lists_every_class_was_looked_for(tmp_path):
    dataset = coco.read(_write(tmp_path))
    assert dataset.image(1).federated is None
    assert dataset.annotations(1).unverified is None


def test_a_list_that_is_empty_or_missing_beside_the_other_names_no_class(tmp_path):
    dataset = coco.read(_write(tmp_path, neg_category_ids=[]))
    assert dataset.image(1).federated == Federated((), ())
    assert dataset.annotations(1).unverified.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        pytest.param(
            {"neg_category_ids": 3}, r"neg_category_ids: expected a list of ids of categories; got 3", id="no"
        ),
        pytest.param({"neg_category_ids": [30, "x"]}, r"expected a list of ids of categories; got \[30, 'x'\]", id="x"),
        pytest.param({"neg_category_ids": [True]}, r"expected a list of ids of categories; got \[True\]", id="bool"),
        pytest.param(
            {"not_exhaustive_category_ids": [10, 31]},
            r"lvis.json: image 1: not_exhaustive_category_ids: expected ids among categories; got 31",
            id="unknown",
        ),
    ],
)
def test_what_is_no_list_of_known_classes_is_refused(tmp_path, lists, message):
    with pytest.raises(DataError, match=message):
        coco.read(_write(tmp_path, **lists))


def test_names_of_the_first_lvis_give_way_to_the_addresses_of_its_images(tmp_path):
    path = _write(tmp_path, coco_url="http://images.cocodataset.org/val2017/000000266409.jpg")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "COCO_val2014_000000266409.jpg"
    path.write_text(json.dumps(content))
    assert coco.read(path).image(1).file_name == "val2017/000000266409.jpg"
    content["images"][0] |= {"coco_url": "http://images.cocodataset.org/val2014/COCO_val2014_000000266409.jpg"}
    path.write_text(json.dumps(content))  # as COCO's own files of 2014 have it
    assert coco.read(path).image(1).file_name == "COCO_val2014_000000266409.jpg"


@pytest.mark.realdata
@pytest.mark.skipif("TIS_RAY_DATA" not in os.environ, reason="TIS_RAY_DATA is not set")
def test_real_lvis_is_read():
    path = Path(os.environ["TIS_RAY_DATA"]) / "lvis_val100" / "lvis_val_100.json"
    dataset, content = coco.read(path), json.loads(path.read_text())
    assert len(dataset) == 100
    assert set(dataset.categories.frequency) == {"r", "c", "f"}
    for image in content["images"]:
        record = dataset.image(image["id"])
        assert record.file_name == f"{record.path.parent.name}/{image['id']:012d}.jpg"
        present = {one["category_id"] for one in content["annotations"] if one["image_id"] == image["id"]}
        verified = (present | set(image["neg_category_ids"])) - set(image["not_exhaustive_category_ids"])
        unverified = dataset.annotations(image["id"]).unverified
        assert {id_ for id_, unknown in zip(dataset.categories.ids, unverified, strict=True) if not unknown} == verified
