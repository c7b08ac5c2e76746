"""The seven curves equal pycocotools' where the objects of other classes are made regions to ignore, class by class."""

import copy

import numpy as np
import pytest

from tests.evaluation.coco_scenes import evaluator, read, scene
from tis_ray.errors import InputError
from tis_ray.evaluation.error_curves import CURVES, error_curves
from tis_ray.evaluation.greedy import SIZES
from tis_ray.evaluation.overlaps import overlaps

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

VEHICLES = [{"id": 1, "name": "car", "supercategory": "veh"}, {"id": 2, "name": "bus", "supercategory": "veh"}]
WORKED = {"C75": 0, "C50": 0.126238, "Loc": 0.126238, "Sim": 0.168317, "Oth": 0.252475, "BG": 0.504950, "FN": 1}


def _worked(*, supercategories: bool = True) -> tuple[dict, list[dict]]:
    """Two cars, a bus and a person; four boxes are called cars: on the bus, on the person, on nothing, on a car."""
    truth = [(1, 0, 0), (1, 200, 0), (2, 0, 200), (3, 200, 200)]
    categories = [*VEHICLES, {"id": 3, "name": "person", "supercategory": "hum"}]
    if not supercategories:
        categories = [{key: one[key] for key in ("id", "name")} for one in categories]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 400, "width": 400}],
        "categories": categories,
        "annotations": [
            {"id": i, "image_id": 1, "category_id": id_, "bbox": [x, y, 100, 100], "area": 10000, "iscrowd": 0}
            for i, (id_, x, y) in enumerate(truth)
        ],
    }
    found = [
        ([0, 200, 100, 100], 0.95),
        ([200, 200, 100, 100], 0.9),
        ([110, 110, 60, 60], 0.85),
        ([0, 0, 100, 60], 0.8),
    ]
    return content, [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found]


def _expected(content: dict, results: list[dict], kind: str) -> np.ndarray:
    """(7, 101, K, S) with -1 where there is nothing to find."""
    supercategories = {one["id"]: one["supercategory"] for one in content["categories"]}
    of_classes = []
    for id_, own in supercategories.items():
        curves = []
        for others in (set(), {i for i, name in supercategories.items() if name == own}, set(supercategories)):
            changed = copy.deepcopy(content)
            for one in changed["annotations"]:
                if one["category_id"] in others - {id_}:
                    one |= {"category_id": id_, "ignore": 1, "iscrowd": 1}
            thresholds = [0.1] if others else [0.75, 0.5, 0.1]
            sizes = [list(size) for size in SIZES.values()]
            made = evaluator(changed, results, kind, catIds=[id_], iouThrs=thresholds, areaRng=sizes, maxDets=[100])
            curves.append(made.eval["precision"][:, :, 0, :, 0])
        background = np.where(curves[-1] < 0, -1, curves[-1] > 0)
        of_classes.append(np.concatenate([*curves, background, np.where(background < 0, -1, 1)]))
    return np.stack(of_classes, axis=2)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_random_scenes_equal_pycocotools(tmp_path, kind):
    content, results = scene(1)
    dataset = read(tmp_path, content)
    found = error_curves(overlaps(dataset, results, kind=kind), dataset.categories)
    expected = _expected(content, results, kind)
    assert np.nan_to_num(found.precision, nan=-1) == pytest.approx(expected, abs=1e-12)
    defined = expected[:, 0, :, 0] >= 0
    assert defined[0].tolist() == [True, True, True, False]
    steps = np.diff(found.curves().mean(axis=1))
    assert (steps[:-1] > 0.005).all()  # each kind of error happens


def test_worked_example(tmp_path):
    content, results = _worked()
    dataset = read(tmp_path, content)
    found = error_curves(overlaps(dataset, results, kind="bbox"), dataset.categories)
    assert found.numbers([0]) == pytest.approx(WORKED, abs=1e-6)
    assert found.numbers([0], size="medium")["FN"] != 1  # no car of that size
    others = dict.fromkeys(CURVES, 0.0) | {"FN": 1.0}
    assert found.numbers([1]) == pytest.approx(others)
    assert found.numbers()["Loc"] == pytest.approx(WORKED["Loc"] / 3, abs=1e-6)
    assert found.supercategories() == {"veh": [0, 1], "hum": [2]}
    assert found.counts[:, 0].tolist() == [2, 1, 1]
    figures = found.to_json()
    assert figures["supercategories"]["veh"]["all"]["Sim"] == pytest.approx(WORKED["Sim"] / 2, abs=1e-6)
    assert figures["classes"]["car"]["small"]["C50"] is None


def test_without_supercategories_no_class_is_similar(tmp_path):
    content, results = _worked(supercategories=False)
    dataset = read(tmp_path, content)
    numbers = error_curves(overlaps(dataset, results, kind="bbox"), dataset.categories).numbers([0])
    assert numbers == pytest.approx(WORKED | {"Sim": WORKED["Loc"]}, abs=1e-6)


def test_nothing_found_and_nothing_there(tmp_path):
    content, results = _worked()
    dataset = read(tmp_path, content)
    nothing = error_curves(overlaps(dataset, [], kind="segm"), dataset.categories)
    assert nothing.numbers() == dict.fromkeys(CURVES, 0.0) | {"FN": 1.0}
    empty = read(tmp_path, content | {"annotations": []})
    undefined = error_curves(overlaps(empty, results, kind="bbox"), empty.categories)
    assert np.isnan(list(undefined.numbers().values())).all()


def test_unknown_names_are_refused(tmp_path):
    dataset = read(tmp_path, _worked()[0])
    with pytest.raises(InputError, match=r"kind: expected bbox or segm; got 'mask'"):
        overlaps(dataset, [], kind="mask")
    with pytest.raises(InputError, match=r"size: expected one of all, small, medium, large; got 'tiny'"):
        error_curves(overlaps(dataset, []), dataset.categories).numbers(size="tiny")
