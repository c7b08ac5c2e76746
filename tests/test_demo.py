"""The demo on a handful of scenes: every step for real, files where it says, nothing left running."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from tests.processes import MARK, left_running
from tis_ray import demo
from tis_ray.config import Ensemble, parse
from tis_ray.data.scenes import write_scenes
from tis_ray.errors import DataError
from tis_ray.formats import coco


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "scenes", num_images=8, size_wh=(160, 128), processes=1)
    return tmp_path / "scenes"


def test_a_single_json_is_split_without_overlap(scenes: Path, tmp_path: Path) -> None:
    (scenes / "instances_val.json").unlink()
    train, val, images = demo.user_data(scenes, tmp_path / "out")
    parts = [coco.read(path, images) for path in (train, val)]
    ids = [{record.id for record in part.images} for part in parts]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == len(coco.read(scenes / "instances_train.json"))
    assert all(record.path.is_file() for part in parts for record in part.images)


def test_folder_without_coco_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a COCO JSON such as"):
        demo.user_data(tmp_path, tmp_path / "out")


def test_the_serve_config_serves_the_demos_ensemble() -> None:
    config = yaml.safe_load((Path(__file__).parents[1] / "deployments" / "local.yaml").read_text())
    (application,) = config["applications"]
    fusion = next(one["user_config"] for one in application["deployments"] if one["name"] == "Fusion")
    served = parse(Ensemble, application["args"] | {"fusion": fusion}, source="local.yaml")
    paths = {name: f"demo/runs/{recipe}/checkpoint" for name, recipe in demo.MEMBERS.items()}
    made = parse(Ensemble, demo.ensemble_content(paths), source="demo")
    assert (served.members, served.fusion) == (made.members, made.fusion)


@pytest.mark.slow
@pytest.mark.ray
def test_runs_from_nothing_to_a_table_and_leaves_nothing_running(scenes: Path, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    out = tmp_path / "out"
    code = "from tis_ray.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "--data", str(scenes), "--out", str(out)]
    environment = os.environ | {MARK: mark}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert (out / "overlay.png").stat().st_size > 1000
    scores = json.loads((out / "scores.json").read_text())
    assert [name.split(",")[0].split(" at ")[0] for name in scores] == ["resnet18"] * 3 + ["shufflenet"] * 3 + [
        "ensemble"
    ]
    assert all(name in answer.stdout for name in scores)
    results = json.loads((out / "results.json").read_text())
    val = coco.read(scenes / "instances_val.json")
    assert {entry["image_id"] for entry in results} <= {record.id for record in val.images}
    assert left_running(mark) == set()
