"""Every metric by its name: figures as JSON, and as a table."""

import json

import pytest
from rich.console import Console

from tests.evaluation.coco_scenes import read, scene
from tis_ray.errors import InputError
from tis_ray.evaluation.coco import evaluate
from tis_ray.evaluation.metrics import METRICS, evaluate_by, figures, metric_table


def _text(name: str, report: object) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(metric_table(name, report))
    return captured.get()


def test_each_metric_has_figures_under_its_name_and_a_table(tmp_path):
    content, results = scene(6, images=3)
    dataset = read(tmp_path, content)
    reports = [(name, evaluate_by(name, dataset, results)) for name in METRICS]
    found = json.loads(json.dumps(figures(reports)))
    assert [(name, one["metric"]) for name, one in found.items()] == [(name, name) for name in METRICS]
    assert found["wad-coco"]["segm"]["AP"] == found["coco"]["segm"]["AP"]  # no rider here
    assert 0 < found["wad-kaggle"]["AP"] < 1
    texts = {name: " ".join(_text(name, report).split()) for name, report in reports}
    assert "by WAD's Kaggle metric as an entrant restated it" in texts["wad-kaggle"]
    assert "COCO's metric of WAD's classes" in texts["wad-coco"]
    assert "AR1000" in texts["proposals"]
    assert f"{100 * found['wad-kaggle']['AP50']:.1f}" in texts["wad-kaggle"]
    assert "n/a" in texts["proposals"]  # no object of 256 px
    assert not any("official" in text for text in texts.values())


def test_one_metric_has_its_figures_alone(tmp_path):
    content, results = scene(6, images=2)
    dataset = read(tmp_path, content)
    report = evaluate_by(None, dataset, results, bootstrap=5, seed=1)
    assert figures([("coco", report)]) == evaluate(dataset, results, bootstrap=5, seed=1).to_json()


def test_an_unknown_metric_is_refused_with_the_names(tmp_path):
    with pytest.raises(
        InputError, match=r"metric: expected one of coco, lvis, wad-kaggle, wad-coco, proposals; got 'x'"
    ):
        evaluate_by("x", read(tmp_path, scene(6, images=1)[0]), [])
