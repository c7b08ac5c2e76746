"""Training on a cluster by way of its jobs API: a real one, which shares nothing with the command but this machine."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

import tis_ray
from tests.cluster.conftest import Cluster
from tests.tiny import TINY_DETECTOR
from tis_ray.config import Recipe, dump, parse
from tis_ray.data.scenes import write_scenes
from tis_ray.models import checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, num_images=4, preset="driving", size_wh=(96, 64), seed=0)
    return folder / "instances_train.json"


def write_recipe(folder: Path, scenes: Path, name: str, *, epochs: int = 1) -> Path:
    content = {
        "name": name,
        "data": {"train": {"annotations": str(scenes)}, "scales": [64]},
        "detector": TINY_DETECTOR,
        "schedule": {"epochs": epochs, "warmup_iterations": 1, "milestones": []},
        "resources": {"gpus_per_worker": 0},
        "output": str(folder / "here"),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dump(parse(Recipe, content, source=name))))
    return path


def test_a_job_is_sent_followed_and_its_checkpoints_fetched(cluster: Cluster, scenes: Path, tmp_path: Path) -> None:
    recipes = [write_recipe(tmp_path, scenes, name) for name in ("first", "second")]
    (tmp_path / "code").mkdir()
    sent = ("--submit", cluster.url, "--storage", tmp_path / "there", "--working-dir", tmp_path / "code")
    code, out, told = cluster.run("train", *recipes, *sent)
    assert code == 0, told
    folders = [tmp_path / "here" / name / "checkpoint" for name in ("first", "second")]
    assert out.splitlines() == [f"checkpoint: {folder}" for folder in folders]
    assert re.search(r"^sending \d+ files, \d\.\d MiB", told, re.MULTILINE)
    assert re.search(r"^fetching first, \d+\.\d MiB", told, re.MULTILINE)
    assert "epoch" in told  # the trainer's own progress, from the cluster
    for folder in folders:
        original = tmp_path / "there" / folder.parent.name / "checkpoint"
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in original.iterdir())
        assert all((folder / path.name).read_bytes() == path.read_bytes() for path in original.iterdir())
        _, recipe, categories = checkpoint.load(folder)
        assert (recipe.name, len(categories)) == (folder.parent.name, 7)
    ensemble = tmp_path / "ensemble.yaml"
    ensemble.write_text(yaml.safe_dump({"members": {"a": {"checkpoint": str(folders[0]), "scales": [64]}}}))
    tis_ray.load(ensemble, device="cpu").predict(next(scenes.parent.glob("images/*")))

    code, out, told = cluster.run("jobs", "--address", cluster.url)
    assert code == 0, told
    assert re.search(r"tis-ray-first-second-\w+ +SUCCEEDED +first, second", out)
    code, _, told = cluster.run("train", *recipes, *sent)
    assert code == 2
    assert "first/checkpoint is there already" in " ".join(told.split())
    job = re.search(r"tis-ray-first-second-\w+", out)
    assert job is not None
    code, out, told = cluster.run("jobs", "--follow", job[0], "--address", cluster.url)
    assert (code, len(out.splitlines())) == (0, 2), told
    assert "fetching" not in told  # all of it is here already


def test_a_job_that_fails_ends_the_command_with_its_last_error(cluster: Cluster, scenes: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tmp_path / "nowhere.json", "lost")
    code, out, told = cluster.run("train", recipe, "--submit", cluster.url, "--working-dir", tmp_path)
    assert (code, out) == (2, "")
    last = told.strip().splitlines()[-1]
    assert re.match(r"error: tis-ray-lost-\w+ failed: error: data\.train\.annotations: expected a COCO JSON", last)


def test_ctrl_c_leaves_the_job_running_until_it_is_stopped(cluster: Cluster, scenes: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, scenes, "long", epochs=100_000)
    process = cluster.start("train", recipe, "--submit", cluster.url, "--working-dir", tmp_path / "here")
    (tmp_path / "here").mkdir(exist_ok=True)
    job = interrupted_while_training(process, tmp_path / "here" / "long")
    _, out, _ = cluster.run("jobs", "--address", cluster.url)
    assert re.search(rf"{job} +RUNNING +long", out)
    for _ in range(2):  # the second time it has ended already
        code, out, told = cluster.run("stop", job, "--address", cluster.url)
        assert (code, out) == (0, f"{job}: STOPPED\n"), told
    code, _, told = cluster.run("jobs", "--follow", job, "--address", cluster.url)
    assert code == 2
    assert told.strip().splitlines()[-1] == f"error: {job} was stopped"


def interrupted_while_training(process: subprocess.Popen[str], run: Path) -> str:
    """SIGINT once the run has made a checkpoint; the job's name, which the command told."""
    end = time.monotonic() + 600
    while not list(run.glob("checkpoint_0*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    found = re.search(r"^stop it: tis-ray stop (tis-ray-long-\w+) --address", told, re.MULTILINE)
    assert found is not None, told
    assert f"tis-ray jobs --follow {found[1]}" in told
    return found[1]


def test_mistakes_end_with_one_line(cluster: Cluster) -> None:
    code, _, told = cluster.run("stop", "no-such-job", "--address", cluster.url)
    assert (code, told) == (2, "error: job: expected one that `tis-ray jobs` lists; got no-such-job\n")
    stranger = Cluster(cluster.url, {**cluster.environment, "RAY_AUTH_TOKEN": "wrong"})
    code, _, told = stranger.run("jobs", "--address", cluster.url)
    assert code == 2
    assert "the cluster asks for a token" in " ".join(told.split())
