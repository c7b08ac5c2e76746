"""The restated Kaggle metric against its rules written down pixel by pixel; riders count neither way."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tis_ray.evaluation.coco import evaluate
from tis_ray.evaluation.wad import evaluate_coco, evaluate_kaggle
from tis_ray.formats import coco

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

CLASSES = {33: "car", 36: "person", 37: "rider", 39: "bus"}
HEIGHT, WIDTH = 24, 30


def _rle(pixels: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": list(pixels.shape), "counts": rle["counts"].decode()}


def _content(images: int, annotations: list[dict], size_hw=(HEIGHT, WIDTH)) -> dict:
    records = [{"id": i, "file_name": f"{i}.jpg", "height": size_hw[0], "width": size_hw[1]} for i in range(images)]
    categories = [{"id": id_, "name": name} for id_, name in CLASSES.items()]
    numbered = [one | {"id": number} for number, one in enumerate(annotations)]
    return {"images": records, "annotations": numbered, "categories": categories}


def _read(folder: Path, content: dict) -> coco.CocoDataset:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return coco.read(path)


def _annotation(image: int, category_id: int, mask: np.ndarray, *, crowd: bool = False) -> dict:
    common = {"image_id": image, "category_id": category_id, "iscrowd": int(crowd)}
    rle = _rle(mask)
    return common | {"bbox": coco_mask.toBbox(rle).tolist(), "area": int(mask.sum()), "segmentation": rle}


def _scene(seed: int) -> tuple[dict, list[dict]]:
    """Three tiny pictures with objects that share no pixel, a region to ignore in two parts, shifted results."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(3):
        labels = np.zeros((HEIGHT, WIDTH), dtype=int)
        for number in range(1, 9):
            y, x, h, w = rng.integers((0, 0, 3, 3), (HEIGHT - 2, WIDTH - 2, 13, 13))
            labels[y : y + h, x : x + w] = number
        for number in range(1, 9):
            mask = labels == number
            if not mask.any():
                continue
            if number > 6:
                annotations += [_annotation(image, id_, mask, crowd=True) for id_ in CLASSES]
            else:
                annotations.append(_annotation(image, int(rng.choice([33, 33, 36, 37])), mask))
            for _ in range(rng.integers(0, 4)):
                near = np.roll(mask, rng.choice([0, 0, 1], 2), (0, 1)) & (rng.random(mask.shape) < 0.9)
                id_ = int(rng.choice([33, 36, 37])) if rng.random() < 0.3 else annotations[-1]["category_id"]
                score = float(rng.integers(1, 21) / 20)
                found = {"image_id": image, "category_id": id_, "bbox": [0, 0, 1, 1], "score": score}
                results.append(found | {"segmentation": _rle(near)})
    return _content(3, annotations), results


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max((a | b).sum(), 1)


def _by_the_rules(content: dict, results: list[dict], thresholds=tuple(0.5 + 0.05 * i for i in range(10))) -> dict:
    """AP of each class with objects, all rules one after the other on whole frames."""
    found = [(one, coco_mask.decode(one["segmentation"]).astype(bool)) for one in results]
    there = [(one, coco_mask.decode(one["segmentation"]).astype(bool)) for one in content["annotations"]]
    scores = {}
    for id_, name in CLASSES.items():
        objects = [(one["image_id"], mask) for one, mask in there if one["category_id"] == id_ and not one["iscrowd"]]
        if id_ == 37 or not objects:
            continue
        mine = [(one["image_id"], one["score"], mask) for one, mask in found if one["category_id"] == id_]
        mine.sort(key=lambda one: (-one[1], one[0]))
        ious = np.array([[_iou(m, o) if i == j else 0 for j, o in objects] for i, _, m in mine])
        regions = {}
        for one, mask in there:
            if one["iscrowd"] and one["category_id"] == id_:
                regions[one["image_id"]] = regions.get(one["image_id"], False) | mask
        areas = []
        for threshold in thresholds:
            right = {int(np.argmax(ious[:, j])) for j in range(len(objects)) if ious[:, j].max() > threshold}
            kept = [
                i
                for i in range(len(mine))
                if i in right or not _iou(mine[i][2], regions.get(mine[i][0], ~mine[i][2])) > threshold
            ]
            hits = np.array([i in right for i in kept])
            precision = np.cumsum(hits) / (np.arange(len(hits)) + 1)
            recall = np.concatenate([[0], np.cumsum(hits) / len(objects)])
            areas.append(sum((recall[k + 1] - recall[k]) * precision[k:].max() for k in range(len(kept))))
        scores[name] = areas
    return scores


@pytest.mark.parametrize("seed", [0, 1])
def test_the_kaggle_metric_follows_the_restated_rules(tmp_path, seed):
    content, results = _scene(seed)
    report = evaluate_kaggle(_read(tmp_path, content), results)
    expected = _by_the_rules(content, results)
    assert len(expected) == 2
    for name, areas in expected.items():
        assert report.AP_per_class[name] == pytest.approx(np.mean(areas), abs=1e-12)
    assert pytest.approx(np.mean([areas[0] for areas in expected.values()]), abs=1e-12) == report.AP50
    assert pytest.approx(np.mean([areas[5] for areas in expected.values()]), abs=1e-12) == report.AP75
    assert pytest.approx(np.mean(list(expected.values())), abs=1e-12) == report.AP
    assert 0.05 < report.AP < report.AP50 < 1
    assert report.AP_per_class["bus"] == -1


@pytest.mark.realdata
def test_real_frames_follow_the_restated_rules(tmp_path):
    """Shifted masks, where most objects are: every other column of rows 1560 to 2280 of two frames."""
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    folder = Path(os.environ["TIS_RAY_DATA"]) / "wad"
    real, rng = json.loads((folder / "instances.json").read_text()), np.random.default_rng(0)
    ignored = json.loads((folder / "ignore_regions.json").read_text())
    annotations, results = [], []

    def cut(rle: dict) -> np.ndarray:
        return coco_mask.decode(rle)[1560:2280, ::2].astype(bool)

    for image, record in enumerate(sorted(real["images"], key=lambda one: one["id"])[:2]):
        for one in real["annotations"]:
            mask = cut(one["segmentation"]) if one["image_id"] == record["id"] else np.zeros(0, bool)
            if mask.any() and one["category_id"] in CLASSES:
                annotations.append(_annotation(image, one["category_id"], mask))
                near = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
                found = {"image_id": image, "category_id": one["category_id"], "bbox": [0, 0, 1, 1]}
                results.append(found | {"score": round(float(rng.random()), 2), "segmentation": _rle(near)})
        if (rle := ignored.get(str(record["id"]))) is not None:
            region = cut(rle)
            annotations += [_annotation(image, id_, region, crowd=True) for id_ in CLASSES]
            found = {"image_id": image, "category_id": 33, "bbox": [0, 0, 1, 1], "score": 0.99}
            results.append(found | {"segmentation": _rle(np.roll(region, 1, 0))})
    content = _content(2, annotations, (720, 1692))
    report = evaluate_kaggle(_read(tmp_path, content), results)
    expected = _by_the_rules(content, results)
    assert pytest.approx(np.mean(list(expected.values())), abs=1e-12) == report.AP
    assert 0.1 < report.AP < 0.95


def _car(x: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2:8, x : x + 6] = True
    return mask


def _found(mask: np.ndarray, score: float, *, category_id: int = 33) -> dict:
    return {"image_id": 0, "category_id": category_id, "bbox": [0, 0, 1, 1], "score": score, "segmentation": _rle(mask)}


def test_of_several_the_one_that_overlaps_most_is_right_whatever_its_score(tmp_path):
    dataset = _read(tmp_path, _content(1, [_annotation(0, 33, _car(2))]))
    better, stronger = _found(_car(2), 0.5), _found(_car(3), 0.9)  # IoU 1 and 30/42
    assert evaluate_kaggle(dataset, [better]).AP == 1
    assert evaluate_kaggle(dataset, [better, stronger]).AP == 0.5  # the stronger one is wrong at every overlap
    by_score = evaluate_coco(dataset, [better, stronger])["segm"].AP
    assert by_score == pytest.approx(0.75)  # right up to 0.70, five of ten


def test_an_overlap_of_exactly_the_threshold_is_not_larger(tmp_path):
    dataset = _read(tmp_path, _content(1, [_annotation(0, 33, _car(2))]))
    half = _car(2)
    half[2:5] = False
    assert evaluate_kaggle(dataset, [_found(half, 0.9)]).AP50 == 0
    half[4, 2] = True
    assert evaluate_kaggle(dataset, [_found(half, 0.9)]).AP50 == 1


def test_regions_to_ignore_remove_what_fills_them_and_nothing_smaller(tmp_path):
    region = _car(10) | np.roll(_car(10), 6, 0)
    truth = [_annotation(0, 33, _car(2)), _annotation(0, 33, region, crowd=True)]
    dataset = _read(tmp_path, _content(1, truth))
    right = _found(_car(2), 0.5)
    assert evaluate_kaggle(dataset, [right, _found(region, 0.9)]).AP == 1
    assert evaluate_kaggle(dataset, [right, _found(_car(10), 0.9)]).AP == 0.5  # half of the region at most
    by_coco = evaluate_coco(dataset, [right, _found(_car(10), 0.9)])["segm"].AP
    assert by_coco == pytest.approx(1)  # COCO asks for its share


@pytest.mark.parametrize("score", [evaluate_kaggle, evaluate_coco])
def test_riders_count_neither_way(tmp_path, score):
    truth = [_annotation(0, 33, _car(2)), _annotation(0, 37, _car(10))]
    dataset = _read(tmp_path, _content(1, truth))
    cars = [_found(_car(2), 0.5)]
    figures = score(dataset, [*cars, _found(_car(4), 0.9, category_id=37)]).to_json()
    assert figures == score(dataset, cars).to_json()
    assert (figures.get("AP") or figures["segm"]["AP"]) == pytest.approx(1)
    assert figures["num_objects"] == 1
    assert evaluate(dataset, cars)["segm"].AP < 0.6


def test_nothing_there_and_nothing_found(tmp_path):
    empty = _read(tmp_path, _content(1, []))
    assert evaluate_kaggle(empty, [_found(_car(2), 0.5)]).AP == -1
    dataset = _read(tmp_path, _content(1, [_annotation(0, 33, _car(2))]))
    assert (evaluate_kaggle(dataset, []).AP, evaluate_kaggle(dataset, []).AP_per_class["person"]) == (0, -1)
    box = {key: value for key, value in _found(_car(2), 0.5).items() if key != "segmentation"}
    assert evaluate_kaggle(dataset, [box]).AP == 0
