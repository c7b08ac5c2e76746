"""LVIS's results: the best 300 of an image, always the same ones, as the lvis package reads them."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from lvis import LVIS, LVISResults

from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances
from tis_ray.submission.formats import lvis

SIZE_HW = (60, 80)
CLASSES = Categories((3, 9), ("cup", "fork"))
IMAGE = ListedImage(5, "five.jpg", Path("five.jpg"))


def instances(scores: np.ndarray) -> Instances:
    """As many boxes, each in a place of its own."""
    corners = np.arange(len(scores), dtype=np.float32)[:, None] * np.float32(0.1)
    boxes = np.concatenate([corners, corners, corners + 3, corners + 4], axis=1)
    return Instances.of(boxes, scores, np.arange(len(scores)) % 2)


def written(path: Path, found: Instances) -> list[dict]:
    with lvis.open_writer(path) as write:
        number = write(found, image=IMAGE, categories=CLASSES, size_hw=SIZE_HW)
    content = orjson.loads(path.read_bytes())
    assert len(content) == number
    return content


def test_the_best_300_are_kept_and_of_equal_ones_the_first(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).integers(1, 40, 500) / 40 + 1e-8  # of which the file shows nothing
    content = written(tmp_path / "r.json", instances(scores))
    order = sorted(range(500), key=lambda i: (-round(float(np.float32(scores[i])), 6), i))
    expected = sorted(order[:300])
    assert [one["bbox"][0] for one in content] == pytest.approx([0.1 * i for i in expected], abs=1e-3)
    assert written(tmp_path / "again.json", instances(scores)) == content


def test_fewer_are_all_kept_in_their_order(tmp_path: Path) -> None:
    content = written(tmp_path / "r.json", instances(np.array([0.2, 0.9, 0.5])))
    assert [(one["score"], one["category_id"]) for one in content] == [(0.2, 3), (0.9, 9), (0.5, 3)]
    assert written(tmp_path / "none.json", Instances.empty()) == []


@pytest.mark.filterwarnings("ignore")  # of the lvis package
def test_the_lvis_package_reads_it(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 5, "height": 60, "width": 80, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 3, "name": "cup", "frequency": "r"}, {"id": 9, "name": "fork", "frequency": "f"}],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_bytes(orjson.dumps(truth))
    written(tmp_path / "r.json", instances(np.linspace(0.1, 0.9, 310)))
    results = LVISResults(LVIS(str(tmp_path / "truth.json")), str(tmp_path / "r.json"), max_dets=-1)
    assert len(results.get_ann_ids(img_ids=[5])) == 300
