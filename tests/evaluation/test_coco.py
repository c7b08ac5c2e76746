"""Scores equal pycocotools' own, and every empty corner of a data set gives a report."""

import contextlib
import copy
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tis_ray.errors import InputError
from tis_ray.evaluation.coco import evaluate
from tis_ray.formats import coco

CATEGORIES = [{"id": 1, "name": "car"}, {"id": 3, "name": "truck"}]


def _dataset(tmp_path: Path, content: dict) -> coco.CocoDataset:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return coco.read(path)


def _scene(tmp_path: Path, *, images: int = 4, annotations: bool = True) -> coco.CocoDataset:
    """A car of 10x10 px in every image, and a truck that covers the left half in the first."""
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [10 + i, 20, 10, 10], "iscrowd": 0} for i in range(images)
    ]
    objects.append({"id": 99, "image_id": 0, "category_id": 3, "bbox": [0, 0, 100, 100], "iscrowd": 0})
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 200} for i in range(images)],
        "categories": CATEGORIES,
        "annotations": objects if annotations and images else [],
    }
    return _dataset(tmp_path, content)


def _perfect(dataset: coco.CocoDataset) -> list[dict]:
    """The ground truth as results, with a score of 0.9."""
    found = []
    for record in dataset.images:
        truth = dataset.annotations(record.id)
        for entry, rle in zip(dataset.entries(record.id), truth.masks.to_rle(record.height, record.width), strict=True):
            keys = {key: entry[key] for key in ("image_id", "category_id", "bbox")}
            found.append({**keys, "score": 0.9, "segmentation": rle})
    return found


def _perturbed(path: Path, *, seed: int) -> list[dict]:
    """Results of a mediocre detector: shifted boxes and polygons, coarse scores with ties, doubles, misses."""
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rng = np.random.default_rng(seed)
    category_ids = [category["id"] for category in content["categories"]]
    results = []
    for entry in content["annotations"]:
        if entry["iscrowd"] or rng.random() < 0.1 or entry["image_id"] % 7 == 0:
            continue
        for _ in range(2):
            x, y, w, h = entry["bbox"]
            dx, dy, dw, dh = rng.normal(0, 0.08, 4)
            polygons = [(np.array(part) + rng.normal(0, 2, len(part))).tolist() for part in entry["segmentation"]]
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *sizes[entry["image_id"]]))
            category_id = int(rng.choice(category_ids)) if rng.random() < 0.1 else entry["category_id"]
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": category_id,
                    "bbox": [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)],
                    "score": round(float(rng.random()), 2),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return results


def _reference(path: Path, results: list[dict], kind: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        results = copy.deepcopy(results)
        if kind == "segm":  # the loader takes a mask's area from its box where there is one
            results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
        evaluator = COCOeval(truth, truth.loadRes(results), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _check_parity(path: Path) -> None:
    results = _perturbed(path, seed=0)
    dataset = coco.read(path)
    report = evaluate(dataset, results)
    assert (report.num_images, report.num_results) == (len(dataset), len(results))
    for kind in ("bbox", "segm"):
        expected, found = _reference(path, results, kind), report[kind]
        own = [found.AP, found.AP50, found.AP75, found.APs, found.APm, found.APl, found.AR100]
        assert own == pytest.approx(list(expected.stats[[0, 1, 2, 3, 4, 5, 8]]), abs=1e-9)
        assert 0.1 < found.AP < 0.9
        for i, name_of_class in enumerate(dataset.categories.names):
            values = expected.eval["precision"][:, :, i, 0, 2]
            values = values[values > -1]
            assert found.AP_per_class[name_of_class] == pytest.approx(values.mean() if len(values) else -1, abs=1e-9)


def _octagons(path: Path) -> Path:
    """Thirty images of octagons from 6 to 200 px in three classes, one of them rare, with a crowd here and there."""
    rng = np.random.default_rng(5)
    turn = np.arange(8) * np.pi / 4
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 300, "width": 400} for i in range(1, 31)]
    annotations = []
    for image in images:
        for _ in range(rng.integers(0, 9)):
            radius = rng.choice([3, 8, 20, 60, 100]) * rng.uniform(0.8, 1, 2)
            centre = rng.uniform(radius, np.array([400, 300]) - radius)
            corners = centre + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            low, sides = corners.min(0), np.ptp(corners, axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice([1, 3, 7], p=[0.6, 0.35, 0.05])),
                    "bbox": [*low.tolist(), *sides.tolist()],
                    "area": float(np.prod(radius) * 8**0.5),
                    "iscrowd": int(rng.random() < 0.1),
                    "segmentation": [corners.ravel().tolist()],
                }
            )
    categories = [{"id": 1, "name": "car"}, {"id": 3, "name": "truck"}, {"id": 7, "name": "rare"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_scores_equal_pycocotools(tmp_path):
    _check_parity(_octagons(tmp_path / "octagons.json"))


def test_boxes_are_ranked_by_the_score_and_masks_by_that_of_the_mask(tmp_path):
    """As two lists of results would be, with pycocotools."""
    path = _octagons(tmp_path / "octagons.json")
    boxes = _perturbed(path, seed=0)
    rng = np.random.default_rng(1)
    own = [{"mask_score": round(float(rng.random()) * one["score"], 4)} if i % 5 else {} for i, one in enumerate(boxes)]
    both = [one | more for one, more in zip(boxes, own, strict=True)]
    masks = [one | {"score": more.get("mask_score", one["score"])} for one, more in zip(boxes, own, strict=True)]
    report, plain = evaluate(coco.read(path), both, bootstrap=20), evaluate(coco.read(path), boxes, bootstrap=20)
    assert report["bbox"] == plain["bbox"]
    expected = _reference(path, masks, "segm")
    assert pytest.approx(expected.stats[0], abs=1e-9) == report["segm"].AP
    assert report["segm"].APs == pytest.approx(expected.stats[3], abs=1e-9)
    assert abs(report["segm"].AP - plain["segm"].AP) > 0.01
    assert report["segm"].AP_interval != plain["segm"].AP_interval


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["coco_tiny/instances_val.json", "coco_street/instances_train.json"])
def test_scores_equal_pycocotools_on_real_images(name):
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    _check_parity(Path(os.environ["TIS_RAY_DATA"]) / name)


def test_bootstrap_intervals_hold_the_score_and_follow_the_seed(tmp_path):
    path = _octagons(tmp_path / "octagons.json")
    dataset, results = coco.read(path), _perturbed(path, seed=1)
    report = evaluate(dataset, results, bootstrap=200)
    for kind in ("bbox", "segm"):
        low, high = report[kind].AP_interval
        assert 0 < low < report[kind].AP < high < 1
    assert evaluate(dataset, results, bootstrap=200)["segm"].AP_interval == report["segm"].AP_interval
    assert evaluate(dataset, results, bootstrap=200, seed=1)["segm"].AP_interval != report["segm"].AP_interval


def test_the_ground_truth_itself_scores_one(tmp_path):
    dataset = _scene(tmp_path)
    report = evaluate(dataset, _perfect(dataset), bootstrap=20)
    for kind in ("bbox", "segm"):
        scores = report[kind]
        assert (scores.AP, scores.APs, scores.APl, scores.AR100) == pytest.approx((1, 1, 1, 1))
        assert scores.APm == -1  # no object of that size
        assert scores.AP_interval == pytest.approx((1, 1))
        assert scores.AP_per_class == pytest.approx({"car": 1, "truck": 1})


def test_half_of_the_cars_missed_halves_their_score(tmp_path):
    dataset = _scene(tmp_path)
    found = [result for result in _perfect(dataset) if result["image_id"] < 2]
    report = evaluate(dataset, found)
    # precision is 1 at the recalls 0, 0.01, ..., 0.50, which are 51 of 101, and 0 beyond
    assert report["bbox"].AP_per_class == pytest.approx({"car": 51 / 101, "truck": 1})
    assert report.to_json()["segm"]["AP"] == pytest.approx((51 / 101 + 1) / 2)
    assert report.to_json()["bbox"]["AR100"] == pytest.approx((0.5 + 1) / 2)


def test_no_results_score_zero(tmp_path):
    report = evaluate(_scene(tmp_path), [], bootstrap=10)
    for kind in ("bbox", "segm"):
        assert (report[kind].AP, report[kind].APm, report[kind].AR100) == (0, -1, 0)
        assert report[kind].AP_interval == (0, 0)


@pytest.mark.parametrize("images", [0, 3])
def test_no_ground_truth_leaves_every_score_undefined(tmp_path, images):
    dataset = _scene(tmp_path, images=images, annotations=False)
    results = [{"image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} for i in range(images)]
    report = evaluate(dataset, results, bootstrap=10)
    for kind in ("bbox", "segm"):
        assert (report[kind].AP, report[kind].AR100, report[kind].AP_interval) == (-1, -1, None)
        assert report[kind].AP_per_class == {"car": -1, "truck": -1}


def test_a_class_without_objects_is_left_out_of_the_mean(tmp_path):
    dataset = _scene(tmp_path)
    only_cars = json.loads(dataset.path.read_text())
    only_cars["annotations"] = [entry for entry in only_cars["annotations"] if entry["category_id"] == 1]
    dataset = _dataset(tmp_path, only_cars)
    false_truck = {**_perfect(dataset)[0], "category_id": 3}
    report = evaluate(dataset, [*_perfect(dataset), false_truck], bootstrap=10)
    assert report.to_json()["bbox"]["AP"] == pytest.approx(1)
    assert report["bbox"].AP_per_class["truck"] == -1
    assert report["bbox"].AP_interval == pytest.approx((1, 1))


def test_an_annotation_with_id_zero_can_be_matched(tmp_path):
    dataset = _scene(tmp_path, images=1)
    assert dataset.entries(0)[0]["id"] == 0
    assert evaluate(dataset, _perfect(dataset), bootstrap=5)["bbox"].AP_per_class["car"] == pytest.approx(1)


def test_boxes_alone_leave_mask_scores_undefined(tmp_path):
    dataset = _scene(tmp_path)
    boxes = [{k: v for k, v in result.items() if k != "segmentation"} for result in _perfect(dataset)]
    report = evaluate(dataset, boxes, bootstrap=5)
    assert report.to_json()["bbox"]["AP"] == pytest.approx(1)
    assert (report["segm"].AP, report["segm"].AP_interval) == (-1, None)


def test_a_result_without_a_mask_among_others_found_no_pixel(tmp_path):
    dataset = _scene(tmp_path)
    perfect = _perfect(dataset)
    bare = [{key: value for key, value in result.items() if key != "segmentation"} for result in perfect]
    report = evaluate(dataset, [*perfect[:1], *bare[1:]])
    assert pytest.approx(1) == report["bbox"].AP
    assert 0 < report["segm"].AP < 1
    assert pytest.approx(1) == evaluate(dataset, perfect)["segm"].AP


def test_a_crowd_is_neither_found_nor_missed(tmp_path):
    content = json.loads(_scene(tmp_path, images=1).path.read_text())
    content["annotations"][1] |= {"category_id": 1, "iscrowd": 1}
    dataset = _dataset(tmp_path, content)
    car, crowd = _perfect(dataset)
    on_crowd = {**crowd, "bbox": [50, 50, 20, 20], "score": 0.95}
    report = evaluate(dataset, [car, on_crowd], kinds=["bbox"])
    assert report.to_json()["bbox"]["AP"] == pytest.approx(1)
    assert list(report.scores) == ["bbox"]


def test_inputs_are_not_changed_and_nothing_is_printed(tmp_path, capsys):
    dataset = _scene(tmp_path)
    results = _perfect(dataset)
    before = copy.deepcopy((results, [dataset.entries(record.id) for record in dataset.images]))
    evaluate(dataset, results, bootstrap=5)
    assert (results, [dataset.entries(record.id) for record in dataset.images]) == before
    assert capsys.readouterr() == ("", "")


def test_the_report_is_plain_json(tmp_path):
    dataset = _scene(tmp_path)
    report = evaluate(dataset, _perfect(dataset), bootstrap=5)
    content = json.loads(json.dumps(report.to_json()))
    assert content["bbox"]["AP"] == pytest.approx(1)
    assert content["segm"]["AP_interval"] == pytest.approx([1, 1])
    assert (content["num_images"], content["num_objects"], content["num_results"]) == (4, 5, 5)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"kinds: expected some of bbox, segm; got 'mask'"):
        evaluate(_scene(tmp_path), [], kinds=["mask"])
