"""LVIS's metric: scores equal those of the lvis package, and what nobody looked for does not count."""

import contextlib
import copy
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tis_ray.errors import InputError
from tis_ray.evaluation.coco import CocoReport, evaluate
from tis_ray.evaluation.federated import strongest
from tis_ray.formats import coco

pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # lvis
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


@pytest.fixture
def lvis(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The package, which needs a name that numpy has given up and sets up logging when it is imported."""
    monkeypatch.setattr(np, "float", float, raising=False)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    package = pytest.importorskip("lvis")
    root.handlers[:], root.level = before
    return package


def _expected(lvis, path: Path, results: list[dict], kind: str) -> list[float]:
    results = copy.deepcopy(results)
    if kind == "segm":  # the package takes a mask's area from its box where there is one
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = lvis.LVIS(str(path))
        evaluator = lvis.LVISEval(truth, lvis.LVISResults(truth, results), kind)
        evaluator.run()
    return [float(evaluator.get_results()[name]) for name in (*NAMES, "AR@300")]


def _own(report: CocoReport, kind: str) -> list[float]:
    return [getattr(report[kind], name) for name in (*NAMES, "AR300")]


def _perturbed(path: Path, *, seed: int, times: int) -> list[dict]:
    """Each object `times` times, shifted and some of another class, with coarse scores that tie, shuffled."""
    content, rng = json.loads(path.read_text()), np.random.default_rng(seed)
    images = {image["id"]: image for image in content["images"]}
    everything = [category["id"] for category in content["categories"]]
    results = []
    for entry in content["annotations"]:
        image = images[entry["image_id"]]
        near = [*image["neg_category_ids"], *image["not_exhaustive_category_ids"], entry["category_id"]]
        for _ in range(times):
            x, y, w, h = entry["bbox"]
            dx, dy, dw, dh = rng.normal(0, 0.05, 4)
            shift = rng.normal(0, 0.03, 2) * (w, h)
            polygons = [(np.array(part).reshape(-1, 2) + shift).ravel().tolist() for part in entry["segmentation"]]
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, image["height"], image["width"]))
            classes = [[entry["category_id"]], near, everything][rng.choice(3, p=[0.7, 0.2, 0.1])]
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": int(rng.choice(classes)),
                    "bbox": [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)],
                    "score": round(float(rng.random()), 2),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return [results[i] for i in rng.permutation(len(results))]


def _squares(path: Path) -> Path:
    """Twenty images of squares from 6 to 150 px in nine classes, each image with classes absent, in part and unknown.

    One has more objects than count.
    """
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, 21):
        roles = rng.permutation(9) + 1
        present, absent, unknown = roles[:4], roles[4:6], roles[6:]
        if image_id > 3:
            present = present[: rng.integers(0, 5)]
        loose = [*present[: image_id % 3], *unknown[: image_id % 2]]
        images.append(
            {
                "id": image_id,
                "file_name": f"{image_id}.jpg",
                "height": 300,
                "width": 400,
                "neg_category_ids": absent.tolist(),
                "not_exhaustive_category_ids": [int(id_) for id_ in loose],
            }
        )
        for _ in range(200 if image_id == 2 else 12 if len(present) else 0):
            side = float(rng.choice([6, 25, 60, 150]))
            x, y = rng.uniform(0, (400 - side, 300 - side)).tolist()
            corners = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(rng.choice(present)),
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "segmentation": [corners],
                }
            )
    categories = [{"id": id_, "name": str(id_), "frequency": "rcf"[id_ % 3]} for id_ in range(1, 10)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _check_parity(lvis, path: Path, *, times: int) -> None:
    results = _perturbed(path, seed=1, times=times)
    report = evaluate(coco.read(path), results)
    assert report.metric == "lvis"
    for kind in ("bbox", "segm"):
        found = _own(report, kind)
        assert found == pytest.approx(_expected(lvis, path, results, kind), abs=1e-9)
        assert 0.05 < found[0] < 0.9


def test_scores_equal_the_packages(lvis, tmp_path):
    path = _squares(tmp_path / "squares.json")
    _check_parity(lvis, path, times=2)
    counts = np.bincount([one["image_id"] for one in _perturbed(path, seed=1, times=2)])
    assert counts.max() > 300


@pytest.mark.realdata
@pytest.mark.parametrize("times", [2, 30])
def test_scores_equal_the_packages_on_real_images(lvis, times):
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    _check_parity(lvis, Path(os.environ["TIS_RAY_DATA"]) / "lvis_val100/lvis_val_100.json", times=times)


# ---------------------------------------------------------------------------------------------- By hand


def _truth(tmp_path: Path, *, frequency: bool = True, federated: bool = True) -> coco.CocoDataset:
    """One class in four images: an object; absent; nothing said; an object, and perhaps more of them."""
    lists = [([], []), ([1], []), ([], []), ([], [1])]
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100}
        | ({"neg_category_ids": absent, "not_exhaustive_category_ids": loose} if federated else {})
        for i, (absent, loose) in enumerate(lists, start=1)
    ]
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "car"} | ({"frequency": "r"} if frequency else {})],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600} for i in (1, 4)
        ],
    }
    path = tmp_path / "four.json"
    path.write_text(json.dumps(content))
    return coco.read(path)


def _found(image_id: int, score: float, x: int = 10, *, category_id: int = 1) -> dict:
    (rle,) = coco_mask.frPyObjects([[x, 10, x + 40, 10, x + 40, 50, x, 50]], 100, 100)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    box = [x, 10, 40, 40]
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "score": score,
        "segmentation": segmentation,
    }


FOUND = [_found(1, 0.9), _found(2, 0.8), _found(3, 0.95), _found(4, 0.7), _found(4, 0.85, 55)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_worked_example(tmp_path, kind):
    scores = evaluate(_truth(tmp_path), FOUND)[kind]
    assert pytest.approx((0.834983,) * 3, abs=1e-6) == (scores.AP, scores.AP50, scores.AP75)
    assert (scores.APr, scores.APc, scores.APf) == pytest.approx((scores.AP, -1, -1))
    assert pytest.approx(0.450495, abs=1e-6) == evaluate(_truth(tmp_path), FOUND, metric="coco")[kind].AP
    assert pytest.approx(0.450495, abs=1e-6) == evaluate(_truth(tmp_path, federated=False), FOUND)[kind].AP


def test_the_strongest_count_before_what_nobody_looked_for_is_dropped(tmp_path):
    crowd = [_found(3, 0.99) for _ in range(300)]
    dataset = _truth(tmp_path)
    assert pytest.approx(0.834983, abs=1e-6) == evaluate(dataset, [*crowd, *FOUND])["bbox"].AP
    unknown = [{**one, "image_id": 1, "category_id": 2} for one in crowd]
    content = json.loads(dataset.path.read_text())
    content["categories"].append({"id": 2, "name": "unknown", "frequency": "f"})
    dataset.path.write_text(json.dumps(content))
    assert pytest.approx(0.834983, abs=1e-6) == evaluate(coco.read(dataset.path), [*unknown[1:], *FOUND])["bbox"].AP
    assert evaluate(coco.read(dataset.path), [*unknown, *FOUND])["bbox"].AP < 0.5  # the only hit of image 1 is 301st


def test_masks_count_by_their_own_scores(tmp_path):
    """The only hit of image 1 is the 301st of its boxes and the first of its masks."""
    many = [{**_found(1, 0.95, 55), "mask_score": 0.1} for _ in range(300)]
    report = evaluate(_truth(tmp_path), [*many, *FOUND])
    assert report["bbox"].AP < 0.01
    assert pytest.approx(0.834983, abs=1e-6) == report["segm"].AP


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_intervals_follow_the_same_rules(tmp_path, kind):
    """Of a set in which each draw scores the same by LVIS's rules: all that is wrong does not count."""
    dataset = _truth(tmp_path)
    right = [one for one in FOUND if one["image_id"] != 2]
    scores = evaluate(dataset, right, bootstrap=50)[kind]
    assert pytest.approx(1) == scores.AP
    assert scores.AP_interval == pytest.approx((1, 1))
    assert scores.APr_interval == scores.AP_interval
    assert (scores.APc_interval, scores.APf_interval) == (None, None)
    low, high = evaluate(dataset, FOUND, bootstrap=50)[kind].AP_interval
    assert low < 0.834983 < high


def test_intervals_hold_the_scores_of_each_frequency(tmp_path):
    path = _squares(tmp_path / "squares.json")
    scores = evaluate(coco.read(path), _perturbed(path, seed=1, times=2), bootstrap=100)["bbox"]
    for name in ("AP", "APr", "APc", "APf"):
        low, high = getattr(scores, f"{name}_interval")
        assert low < getattr(scores, name) < high


def test_frequencies_alone_are_scored_beside_cocos(tmp_path):
    report = evaluate(_truth(tmp_path, federated=False), FOUND)
    assert (report.metric, report["bbox"].APr) == ("coco", report["bbox"].AP)
    assert report.names == ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR100")
    plain = evaluate(_truth(tmp_path, federated=False, frequency=False), FOUND)
    assert "APr" not in plain.to_json()["bbox"]
    assert plain["bbox"].AP == report["bbox"].AP


def test_an_image_without_lists_is_annotated_to_the_last_object(tmp_path):
    plain = _truth(tmp_path, federated=False)
    assert pytest.approx(0.450495, abs=1e-6) == evaluate(plain, FOUND, metric="lvis")["bbox"].AP


@pytest.mark.parametrize("results", [[], FOUND], ids=["nothing found", "found"])
def test_no_objects_leave_every_score_undefined(tmp_path, results):
    content = json.loads(_truth(tmp_path).path.read_text())
    content["annotations"] = []
    path = tmp_path / "none.json"
    path.write_text(json.dumps(content))
    scores = evaluate(coco.read(path), results, bootstrap=5)["segm"]
    assert (scores.AP, scores.APr, scores.AR300, scores.AP_interval) == (-1, -1, -1, None)


def test_nothing_found_scores_zero(tmp_path):
    scores = evaluate(_truth(tmp_path), [], bootstrap=5)["segm"]
    assert (scores.AP, scores.APr, scores.APc, scores.AR300, scores.APr_interval) == (0, 0, -1, 0, (0, 0))


def test_the_report_says_by_which_rules(tmp_path):
    content = json.loads(json.dumps(evaluate(_truth(tmp_path), FOUND, bootstrap=5).to_json()))
    assert content["metric"] == "lvis"
    assert content["bbox"]["APr"] == pytest.approx(0.834983, abs=1e-6)
    assert content["bbox"]["APc_interval"] is None
    assert "AR300" in content["segm"]
    assert "AR100" not in content["segm"]


def test_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"metric: expected one of coco, lvis; got 'voc'"):
        evaluate(_truth(tmp_path), [], metric="voc")


def test_of_equally_strong_results_the_earlier_ones_count():
    images, scores = [7, 5, 7, 7, 5, 7], [0.5, 0.9, 0.7, 0.5, 0.1, 0.5]
    assert strongest(images, scores, most=2).tolist() == [True, True, True, False, True, False]
    assert strongest([], [], most=2).tolist() == []
