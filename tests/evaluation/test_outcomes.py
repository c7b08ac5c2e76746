"""Confusion, and the quality of each image, against plain loops and by hand."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.evaluation.coco_scenes import CATEGORIES, read, scene
from tis_ray.errors import InputError
from tis_ray.evaluation.confusion import confusion
from tis_ray.evaluation.image_quality import image_quality
from tis_ray.evaluation.outcomes import outcomes
from tis_ray.evaluation.overlaps import overlaps

IDS = [one["id"] for one in CATEGORIES]


def _loops(content: dict, results: list[dict], kind: str, iou: float, min_score: float, *, by_class: bool):
    """Confusion counts (K + 1, K + 1), and (hits, false, missed, sum of overlaps) of each image."""
    counts, of_images = np.zeros((len(IDS) + 1, len(IDS) + 1), dtype=int), []
    field = "bbox" if kind == "bbox" else "segmentation"
    for image in content["images"]:
        there = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        there.sort(key=lambda one: one["category_id"])
        found = [one for one in results if one["image_id"] == image["id"] and one["score"] >= min_score]
        found.sort(key=lambda one: (-one["score"], one["category_id"]))
        crowd = [one["iscrowd"] for one in there]
        forms = [np.array([one[field] for one in some], float) if kind == "bbox" else [one[field] for one in some]
                 for some in (found, there)]  # fmt: skip
        values = coco_mask.iou(*forms, crowd)
        free, hits, false, total = set(range(len(there))), 0, 0, 0.0
        for d, one in enumerate(found):
            allowed = [g for g in range(len(there)) if not by_class or there[g]["category_id"] == one["category_id"]]
            mine = [g for g in allowed if g in free and not crowd[g] and values[d][g] >= iou]
            if mine:
                best = max(mine, key=lambda g: (values[d][g], g))
                free.remove(best)
                hits, total = hits + 1, total + values[d][best]
                counts[IDS.index(there[best]["category_id"]), IDS.index(one["category_id"])] += 1
            elif not any(crowd[g] and values[d][g] >= iou for g in allowed):
                false += 1
                counts[-1, IDS.index(one["category_id"])] += 1
        missed = [g for g in free if not crowd[g]]
        for g in missed:
            counts[IDS.index(there[g]["category_id"]), -1] += 1
        of_images.append((hits, false, len(missed), total))
    return counts, np.array(of_images)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(("iou", "min_score"), [(0.5, 0.3), (0.3, 0.0)])
def test_counts_equal_plain_loops(tmp_path, kind, iou, min_score):
    content, results = scene(5)
    dataset = read(tmp_path, content)
    pairs = overlaps(dataset, results, kind=kind)
    expected, _ = _loops(content, results, kind, iou, min_score, by_class=False)
    found = confusion(pairs, dataset.categories, iou=iou, min_score=min_score)
    assert found.counts.tolist() == expected.tolist()
    assert (expected[:3, :3].trace(), expected[-1, :3].min(), expected[:3, -1].min()) > (10, 0, 0)
    assert np.nansum(found.shares, axis=1) == pytest.approx([1, 1, 1, 0, 1])
    _, images = _loops(content, results, kind, iou, min_score, by_class=True)
    quality = image_quality(pairs, iou=iou, min_score=min_score)
    assert np.stack([quality.hits, quality.false, quality.missed], axis=1).tolist() == images[:, :3].tolist()
    whole = images[:, 0] + (images[:, 1] + images[:, 2]) / 2
    assert quality.quality == pytest.approx(images[:, 3] / whole)
    assert quality.f1 == pytest.approx(images[:, 0] / whole)
    order = quality.quality[quality.worst_first()]
    assert (np.diff(order) >= 0).all()
    assert quality.quality[quality.best_first()].tolist() == order[::-1].tolist()


def test_by_hand(tmp_path):
    """A car found as a bus, a person missed, one of two persons found twice, something on a crowd, something weak."""
    boxes = [(2, [0, 0, 10, 10], 0), (5, [50, 0, 10, 10], 0), (5, [80, 0, 10, 10], 0), (2, [0, 50, 40, 40], 1)]
    image = {"file_name": "1.jpg", "height": 120, "width": 160}
    content = {
        "images": [{"id": 1, **image}, {"id": 2, **image}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": i, "image_id": 1, "category_id": id_, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for i, (id_, box, crowd) in enumerate(boxes)
        ],
    }
    said = [
        (3, [0, 0, 10, 8], 0.9), (5, [50, 0, 10, 10], 0.8), (5, [50, 0, 10, 9], 0.7), (2, [5, 55, 9, 9], 0.6),
        (5, [80, 0, 10, 10], 0.2),
    ]  # fmt: skip
    results = [{"image_id": 1, "category_id": id_, "bbox": box, "score": score} for id_, box, score in said]
    dataset = read(tmp_path, content)
    pairs = overlaps(dataset, results, kind="bbox")
    found = confusion(pairs, dataset.categories)
    assert found.counts.tolist() == [[0, 1, 0, 0, 0], [0] * 5, [0, 0, 1, 0, 1], [0] * 5, [0, 0, 1, 0, 0]]
    assert found.to_json()["rows"] == ["car", "bus", "person", "nothing", "background"]
    assert found.to_json()["columns"][-1] == "missed"
    seen = outcomes(pairs)
    assert seen.hits.tolist() == [False, True, False, False, False]
    assert seen.false.tolist() == [True, False, True, False, False]  # a bus that is none, the double
    assert pairs.rows[seen.false].tolist() == [0, 2]
    assert seen.missed[np.argsort(pairs.object_rows)].tolist() == [True, False, True, False]
    assert seen.ious[1] == 1
    quality = image_quality(pairs)
    assert quality.quality[0] == pytest.approx(1 / (1 + (2 + 2) / 2))
    assert np.isnan(quality.quality[1])  # nothing there, nothing found
    assert quality.worst_first().tolist() == quality.best_first().tolist() == [0]
    entries = json.loads(json.dumps(quality.to_json()))
    assert entries[1] == {"image_id": 2, "quality": None, "f1": None, "hits": 0, "false": 0, "missed": 0}


def test_an_overlap_of_exactly_the_least_is_a_hit_and_a_lower_one_cannot_be_asked_for(tmp_path):
    """Three pixels of thirty: 0.1 times 30 is a little more than 3 in binary."""
    content, _ = scene(5, images=1)
    common = {"image_id": 0, "category_id": 2}
    one = {"id": 1, **common, "bbox": [0, 0, 3, 1], "area": 3, "iscrowd": 0}
    dataset = read(tmp_path, content | {"annotations": [one]})
    pairs = overlaps(dataset, [{**common, "bbox": [0, 0, 30, 1], "score": 0.9}], kind="bbox")
    assert outcomes(pairs, iou=0.1).hits.tolist() == [True]
    with pytest.raises(InputError, match=r"thresholds: expected overlaps of 0.1 or more; got 0.05"):
        outcomes(pairs, iou=0.05)


def test_nothing_found_misses_all(tmp_path):
    content, _ = scene(5, images=2)
    dataset = read(tmp_path, content)
    objects = sum(not one["iscrowd"] for one in content["annotations"])
    for kind in ("bbox", "segm"):
        pairs = overlaps(dataset, [], kind=kind)
        assert confusion(pairs, dataset.categories).counts[:, -1].sum() == objects
        assert image_quality(pairs).missed.sum() == objects
