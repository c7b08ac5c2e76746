"""Results come from a file or from a run's folder, and are the same from both."""

import json
from pathlib import Path

import pytest

from tests.tuning.kept_runs import ensemble_of, write_run, write_truth
from tis_ray.errors import DataError
from tis_ray.explaining.predictions import read_predictions
from tis_ray.formats import coco
from tis_ray.formats.coco_results import to_results

ENSEMBLE = ensemble_of({"a": {"scales": [64], "flip": False}, "b": {"scales": [64], "flip": False}})


def test_a_run_gives_what_its_results_file_gives(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=4)
    run = write_run(tmp_path / "results.run", ENSEMBLE, truth)
    written = [
        line
        for one in run.outcomes()
        for line in to_results(one.instances, image_id=one.image_id, categories=truth.categories, size_hw=one.size_hw)
    ]
    (tmp_path / "results.json").write_text(json.dumps(written))
    from_run, from_file = (read_predictions(tmp_path / name, truth) for name in ("results.run", "results.json"))
    assert from_run.results == from_file.results
    assert (from_run.name, from_file.name, from_file.run) == ("results", "results", None)
    assert [one.status for one in from_run.outcomes] == ["ok"] * 4
    assert (from_run.elsewhere, from_run.unseen) == (0, 0)


def test_images_are_joined_by_name_where_ids_differ_and_counted_where_they_are_missing(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=3)
    write_run(tmp_path / "results.run", ENSEMBLE, truth)
    content = json.loads((tmp_path / "gt.json").read_text())
    for image in content["images"]:
        image["id"] += 10
    content["images"][2]["file_name"] = "other.png"
    content["annotations"] = []
    (tmp_path / "other.json").write_text(json.dumps(content))
    read = read_predictions(tmp_path / "results.run", coco.read(tmp_path / "other.json"))
    assert {one["image_id"] for one in read.results} == {11, 12}
    assert (read.elsewhere, read.unseen) == (1, 1)


def test_other_folders_and_runs_of_other_images_are_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=2)
    with pytest.raises(DataError, match="the folder of a batch run; got another folder"):
        read_predictions(tmp_path, truth)
    write_run(tmp_path / "results.run", ENSEMBLE, truth)
    content = json.loads((tmp_path / "gt.json").read_text())
    content["images"] = [{**image, "file_name": f"x{image['id']}.png"} for image in content["images"]]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="has none of them"):
        read_predictions(tmp_path / "results.run", coco.read(tmp_path / "gt.json"))
