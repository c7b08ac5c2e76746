"""The recall of proposals equals pycocotools' without classes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.coco_scenes import evaluator, read, scene
from tis_ray.evaluation.proposals import all_sizes, proposal_recall
from tis_ray.formats import coco


def _check(content: dict, results: list[dict], dataset: coco.CocoDataset, most: tuple[int, ...]) -> np.ndarray:
    found = proposal_recall(dataset, results, max_proposals=most)
    sizes = [list(size) for size in all_sizes().values()]
    made = evaluator(content, results, "bbox", useCats=0, maxDets=list(most), areaRng=sizes)
    expected = made.eval["recall"][:, 0]  # (T, S, P)
    undefined = expected[0, :, 0] < 0
    assert undefined.tolist() == (found.counts == 0).tolist()
    assert pytest.approx(expected.mean(axis=0), abs=1e-12) == np.nan_to_num(found.recall, nan=-1).T
    assert pytest.approx(expected[0], abs=1e-12) == np.nan_to_num(found.recall50, nan=-1).T
    return found.recall


def test_random_scenes_equal_pycocotools(tmp_path):
    content, results = scene(4)
    recall = _check(content, results, read(tmp_path, content), (2, 8, 1000))
    assert (np.diff(recall[:, 0]) > 0.01).all()


@pytest.mark.realdata
def test_real_images_equal_pycocotools(tmp_path):
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    path = Path(os.environ["TIS_RAY_DATA"]) / "coco_tiny/instances_val.json"
    content, rng = json.loads(path.read_text()), np.random.default_rng(0)
    some = [image["id"] for image in content["images"]][:8]
    for key in ("images", "annotations"):
        content[key] = [one for one in content[key] if one.get("image_id", one["id"]) in some]
    results = []
    for one in content["annotations"]:
        for _ in range(30):
            box = (np.array(one["bbox"]) * rng.normal(1, 0.15, 4)).tolist()
            id_ = int(rng.choice([category["id"] for category in content["categories"]]))
            keys = {"image_id": one["image_id"], "category_id": id_, "bbox": box}
            results.append(keys | {"score": round(float(rng.random()), 2)})
    recall = _check(content, results, read(tmp_path, content), (30, 100, 300))
    assert 0.1 < recall[0, 0] < recall[1, 0] < recall[2, 0] < 0.9


def test_figures_are_plain_json(tmp_path):
    content, results = scene(4, images=1)
    figures = proposal_recall(read(tmp_path, content), results).to_json()
    assert figures["metric"] == "proposals"
    assert list(figures["sizes"]["small"]) == [
        "objects", "AR100", "AR300", "AR1000", "recall50@100", "recall50@300", "recall50@1000"
    ]  # fmt: skip
    assert figures["sizes"][">=256"] == {"objects": 0} | dict.fromkeys(list(figures["sizes"]["small"])[1:])
    assert figures == json.loads(json.dumps(figures))


def test_nothing_found_finds_nothing(tmp_path):
    content, _ = scene(4, images=2)
    recall = proposal_recall(read(tmp_path, content), [])
    assert recall.recall[:, 0].tolist() == [0, 0, 0]
    assert np.isnan(proposal_recall(read(tmp_path, content | {"annotations": []}), []).recall).all()
