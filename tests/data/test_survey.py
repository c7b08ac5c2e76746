"""What a training set looks like to a detector: sizes at all scales, and instances of each class."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tis_ray.data import survey as survey_module
from tis_ray.data.survey import survey
from tis_ray.formats import coco, wad
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.views import resized_hw

OBJECTS = {  # image size hw: boxes wh
    (100, 200): [(10, 40), (20, 20), (3, 3)],
    (300, 150): [(50, 50), (7, 28)],
    (64, 64): [],
}


TABLE = ({"id": 1, "name": "car"}, {"id": 7, "name": "bus"})


def write(folder, objects=OBJECTS, categories=TABLE, ignored=True):
    images, annotations = [], []
    for i, (size_hw, boxes) in enumerate(objects.items()):
        images.append({"id": i, "file_name": f"{i}.png", "height": size_hw[0], "width": size_hw[1]})
        annotations += [{"image_id": i, "category_id": 7 if w < h else 1, "bbox": [0, 0, w, h]} for w, h in boxes]
    if ignored:
        annotations.append({"image_id": 0, "category_id": 1, "bbox": [0, 0, 90, 90], "iscrowd": 1})
        annotations.append({"image_id": 0, "category_id": 1, "bbox": [5, 5, 0, 9]})
    annotations = [{"id": i, **entry} for i, entry in enumerate(annotations)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": list(categories)}))
    return coco.read(path)


def brute_force(objects, scales, max_long_edge):
    sizes = []
    for scale in scales:
        for size_hw, boxes in objects.items():
            height, width = resized_hw(size_hw, scale, max_long_edge)
            sizes += [math.sqrt((w * width / size_hw[1]) * (h * height / size_hw[0])) for w, h in boxes]
    return np.quantile(sizes, np.linspace(0, 1, 101))


@pytest.mark.parametrize("scales", [(50,), (50, 75, 120), (33,)])
@pytest.mark.parametrize("max_long_edge", [None, 130])
def test_sizes_are_those_of_all_objects_at_all_scales(tmp_path, scales, max_long_edge):
    _, sizes = survey(write(tmp_path), scales=scales, max_long_edge=max_long_edge)
    np.testing.assert_allclose(sizes.quantiles, brute_force(OBJECTS, scales, max_long_edge))


def test_regions_to_ignore_and_boxes_without_area_do_not_count(tmp_path):
    categories, _ = survey(write(tmp_path), scales=(50,), max_long_edge=None)
    assert dict(zip(categories.names, categories.counts, strict=True)) == {"car": 3, "bus": 2}
    assert categories.ids == (1, 7)


def test_shares_are_of_all_images_and_know_no_numbers(tmp_path):
    categories, _ = survey(write(tmp_path), scales=(50,), max_long_edge=None)
    assert dict(zip(categories.names, categories.image_shares, strict=True)) == {"car": 2 / 3, "bus": 2 / 3}
    more = {**OBJECTS, (90, 90): [(3, 4), (5, 6)], (80, 80): []}
    assert survey(write(tmp_path, more), scales=(50,), max_long_edge=None)[0].image_shares == (2 / 5, 3 / 5)


def test_counts_that_the_table_brings_are_kept(tmp_path):
    table = [{"id": 1, "name": "car", "instance_count": 5000}, {"id": 7, "name": "bus", "instance_count": 3}]
    truth = write(tmp_path, categories=table)
    categories, _ = survey(truth, scales=(50,), max_long_edge=None)
    assert categories == replace(truth.categories, image_shares=(2 / 3, 2 / 3), area_ratios=(1, 1))


def test_shares_that_the_table_brings_are_kept(tmp_path):
    table = [{"id": 1, "name": "car", "image_share": 0.25}, {"id": 7, "name": "bus", "image_share": 0.0}]
    truth = write(tmp_path, categories=table)
    categories, _ = survey(truth, scales=(50,), max_long_edge=None)
    assert categories == replace(truth.categories, counts=(3, 2), area_ratios=(1, 1))


SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]  # 64 px
TRIANGLE_RLE = {"size": [40, 40], "counts": [0, 1, 39, 2, 38, 3, 1517]}  # 6 px


def test_area_ratios_are_means_over_objects(tmp_path):
    """Areas as noted, else those of the masks, else all of the box; never more than that."""
    entries = [
        {"category_id": 1, "bbox": [0, 0, 10, 20], "area": 50, "segmentation": [SQUARE]},
        {"category_id": 1, "bbox": [4, 4, 16, 8], "segmentation": [SQUARE]},
        {"category_id": 1, "bbox": [0, 0, 3, 4], "area": 0, "segmentation": TRIANGLE_RLE},
        {"category_id": 1, "bbox": [0, 0, 3, 4]},
        {"category_id": 1, "bbox": [0, 0, 3, 4], "area": 13.5},
        {"category_id": 1, "bbox": [0, 0, 30, 40], "area": 1, "iscrowd": 1},
        {"category_id": 7, "bbox": [0, 0, 10, 10], "area": 30},
    ]
    entries = [{"id": i, "image_id": 1, **entry} for i, entry in enumerate(entries)]
    images = [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}]
    table = [*TABLE, {"id": 9, "name": "tram"}]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": entries, "categories": table}))
    categories, _ = survey(coco.read(tmp_path / "i.json"), scales=(40,), max_long_edge=None)
    assert categories.area_ratios == pytest.approx(((0.25 + 0.5 + 0.5 + 1 + 1) / 5, 0.3, 1))


def test_area_ratios_that_the_table_brings_are_kept(tmp_path):
    table = [{"id": 1, "name": "car", "area_ratio": 0.25}, {"id": 7, "name": "bus", "area_ratio": 0.5}]
    categories, _ = survey(write(tmp_path, categories=table), scales=(50,), max_long_edge=None)
    assert categories.area_ratios == (0.25, 0.5)


def test_without_any_object_there_are_no_sizes(tmp_path):
    categories, sizes = survey(write(tmp_path, {(64, 64): []}, ignored=False), scales=(50,), max_long_edge=None)
    assert (categories.counts, categories.image_shares, sizes) == ((0, 0), (0, 0), None)
    assert categories.area_ratios == ()


def test_without_any_image_there_are_no_shares(tmp_path):
    categories, sizes = survey(write(tmp_path, {}, ignored=False), scales=(50,), max_long_edge=None)
    assert (categories.counts, categories.image_shares, sizes) == ((0, 0), (), None)


def test_many_objects_are_thinned_evenly(tmp_path, monkeypatch):
    boxes = [(side, side) for side in range(1, 61)] * 5
    monkeypatch.setattr(survey_module, "MOST_SIZES", 150)
    categories, sizes = survey(write(tmp_path, {(100, 100): boxes}), scales=(100,), max_long_edge=None)
    assert sum(categories.counts) == 300
    assert sizes.at(0.5) == pytest.approx(30.5, abs=2)


def label_images(folder, count):
    for i in range(count):
        labels = np.full((40, 80), 255, dtype=np.uint16)
        labels[10:26, 10:26] = 33000
        labels[30:40, 0:40] = 65535
        Image.fromarray(labels).save(folder / f"f{i}_instanceIds.png")
    return wad.read(folder, folder)


def test_label_images_are_measured_too(tmp_path):
    categories, sizes = survey(label_images(tmp_path, 3), scales=(40, 80), max_long_edge=None)
    assert categories.counts == (3, 0, 0, 0, 0, 0, 0)
    assert categories.image_shares == (1, 0, 0, 0, 0, 0, 0)
    assert sizes.quantiles[0] == 16
    assert sizes.quantiles[-1] == 32


def test_of_many_label_images_a_part_stands_for_all_and_only_shares_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(survey_module, "MOST_FILES", 2)
    truth = label_images(tmp_path, 5)
    for i in (1, 2, 4):
        (tmp_path / f"f{i}_instanceIds.png").unlink()  # 0 and 3 are looked at
    categories, sizes = survey(truth, scales=(40,), max_long_edge=None)
    assert categories == replace(truth.categories, image_shares=(1, 0, 0, 0, 0, 0, 0), area_ratios=(1,) * 7)
    assert sizes == TrainingSizes((16.0,) * 101)
