"""Paired differences: as they are they equal COCO's evaluator, drawn they equal a data set of the drawn images."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.explaining.streets import found_in, write_street
from tis_ray.errors import InputError
from tis_ray.evaluation import paired as module
from tis_ray.evaluation.coco import evaluate
from tis_ray.evaluation.overlaps import overlaps
from tis_ray.evaluation.paired import paired
from tis_ray.formats import coco
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.coco_results import read_results


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return write_street(tmp_path_factory.mktemp("paired"), num_images=7)


def results_of(street: CocoDataset, **options) -> list[dict]:
    path = street.path.with_name("results.json")
    path.write_text(json.dumps(found_in(street, **options)))
    return read_results(path, street)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_are_the_evaluators(street: CocoDataset, kind: str) -> None:
    first, second = results_of(street, off_px=2), results_of(street, off_px=5, seed=1)
    pairs = [overlaps(street, results, kind=kind) for results in (first, second)]
    found = paired(*pairs, street.categories, num_samples=1)
    reports = [evaluate(street, results)[kind] for results in (first, second)]
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR"):
        expected = [getattr(report, "AR100" if name == "AR" else name) for report in reports]
        of = [np.nan if score < 0 else score for score in expected]
        assert (found.scores[name].a, found.scores[name].b) == pytest.approx(of, abs=1e-9, nan_ok=True), name
    for name, score in reports[0].AP_per_class.items():
        assert found.classes[name].a == pytest.approx(np.nan if score < 0 else score, abs=1e-9, nan_ok=True)


def test_a_draw_is_scored_as_a_data_set_of_the_drawn_images(street: CocoDataset, tmp_path: Path) -> None:
    results = results_of(street, off_px=2)
    times = np.array([[2, 0, 1, 3, 0, 1, 0]])
    content = json.loads(street.path.read_text())
    images, annotations, copies = [], [], []
    for place, image in enumerate(content["images"]):
        for copy in range(times[0, place]):
            new = image["id"] * 10 + copy
            images.append({**image, "id": new})
            annotations += [{**one, "image_id": new, "id": one["id"] * 10 + copy}
                            for one in content["annotations"] if one["image_id"] == image["id"]]  # fmt: skip
            copies += [{**one, "image_id": new} for one in results if one["image_id"] == image["id"]]
    (tmp_path / "drawn.json").write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    expected = evaluate(coco.read(tmp_path / "drawn.json"), copies, kinds=("bbox",))["bbox"]
    samples = module._samples(overlaps(street, results, kind="bbox"), 4, (0, 1e10), times)
    assert np.nanmean(samples[0], axis=0) == pytest.approx(
        [expected.AP, expected.AP50, expected.AP75, expected.AR100], abs=1e-9
    )


def test_differences_of_few_images_have_no_interval(street: CocoDataset, tmp_path: Path) -> None:
    few = write_street(tmp_path, num_images=module.FEWEST_IMAGES - 1)
    for dataset, known in ((street, True), (few, False)):
        pairs = overlaps(dataset, found_in(dataset, off_px=2), kind="bbox")
        one = paired(pairs, pairs, dataset.categories, num_samples=20).scores["AP"]
        assert (one.interval is not None) == known
        assert not one.beyond_chance
    assert np.isnan(paired(pairs, pairs, few.categories, num_samples=0).classes["tram"].a), "no object"


def test_other_kinds_and_images_are_refused(street: CocoDataset) -> None:
    results = results_of(street)
    with pytest.raises(InputError, match="kind and images"):
        paired(*(overlaps(street, results, kind=kind) for kind in ("bbox", "segm")), street.categories)
