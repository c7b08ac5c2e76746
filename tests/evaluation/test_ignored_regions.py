"""What is found within a region to ignore is neither right nor wrong, whatever its class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tis_ray.evaluation.coco import evaluate
from tis_ray.formats import wad

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
CAR, PERSON = 33, 36


@pytest.fixture
def dataset(tmp_path: Path) -> wad.WadDataset:
    """Two frames with a car of 20x20 px each; the first has a region to ignore, in two parts, at its bottom."""
    (tmp_path / "labels").mkdir()
    for name in "ab":
        labels = np.full((100, 200), 255, dtype=np.uint16)
        labels[10:30, 10:30] = 33000
        if name == "a":
            labels[80:100, 0:40] = 65535
            labels[80:100, 160:200] = 65535
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}_instanceIds.png")
    return wad.read(tmp_path / "labels", tmp_path / "images")


def result(box_xywh: list[int], *, image_id: int = 1, category_id: int = CAR, score: float) -> dict:
    x, y, w, h = box_xywh
    polygon = [x, y, x, y + h, x + w, y + h, x + w, y]
    (rle,) = coco_mask.frPyObjects([polygon], 100, 200)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    found = {"image_id": image_id, "category_id": category_id, "bbox": box_xywh, "score": score}
    return found | {"segmentation": segmentation}


def cars() -> list[dict]:
    return [result([10, 10, 20, 20], image_id=image_id, score=0.5) for image_id in (1, 2)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_findings_in_a_region_to_ignore_are_no_false_positives(dataset, kind):
    perfect = evaluate(dataset, cars())[kind]
    assert perfect.AP == 1.0
    inside = [result([2 + 3 * i, 82, 10, 10], score=0.9) for i in range(5)]
    assert evaluate(dataset, cars() + inside, bootstrap=50)[kind].AP == 1.0
    outside = [result([100, 82, 10, 10], score=0.9)]  # between its parts
    assert evaluate(dataset, cars() + outside)[kind].AP < 0.8
    other_frame = [result([2, 82, 10, 10], image_id=2, score=0.9)]
    assert evaluate(dataset, cars() + other_frame)[kind].AP < 0.8


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_region_holds_for_each_class_and_makes_no_object_of_any(dataset, kind):
    people = [result([2, 82, 10, 10], category_id=PERSON, score=0.9)]
    scores = evaluate(dataset, cars() + people)[kind]
    assert scores.AP == 1.0
    assert {name for name, ap in scores.AP_per_class.items() if ap >= 0} == {"car"}


def test_regions_are_no_objects(dataset):
    report = evaluate(dataset, cars())
    assert (report.num_images, report.num_objects) == (2, 2)


def test_label_images_are_opened_once(dataset, monkeypatch):
    opened = []
    real = wad.open_label_image
    monkeypatch.setattr(wad, "open_label_image", lambda path: opened.append(path) or real(path))
    evaluate(dataset, cars(), bootstrap=20)
    assert len(opened) == 2
