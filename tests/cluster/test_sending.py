"""What is sent when a job is submitted, and what is refused before. The head is a stand-in that keeps what it gets."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_recipe
from tis_ray.cluster.submit import TARGETS, submit, targets_of
from tis_ray.config import Recipe, load_recipe
from tis_ray.errors import ConfigError


class Head:
    address = "http://head:8265"

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.recipes: list[Recipe] = []

    def submit(self, entrypoint: str, *, working_dir: Path, **fields: Any) -> None:
        self.sent = {"words": shlex.split(entrypoint), **fields}
        self.recipes = [load_recipe(path) for path in sorted(working_dir.glob("tis_ray_recipes/*.yaml"))]


def recipe(name: str, **sections: Any) -> Recipe:
    return tiny_recipe(name=name, data={"train": {"annotations": "scenes/instances.json"}}, output="mine", **sections)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def send(head: Head, *recipes: Recipe, **options: Any) -> str:
    return submit(head, recipes, working_dir=Path("code"), say=lambda line: None, **options)  # type: ignore[arg-type]


def test_a_job_trains_into_the_storage_and_is_fetched_to_the_recipes_output(here: Path) -> None:
    head = Head()
    job = send(head, recipe("one"), recipe("two"), storage="/mnt/shared/runs", resume=True)
    words = ["tis_ray_recipes/one.yaml", "tis_ray_recipes/two.yaml", "--leave-for", job, "--resume"]
    assert head.sent["words"] == ["python", "-m", "tis_ray.cluster.job", *words]
    assert head.sent["job"] == job
    assert [one.run_dir for one in head.recipes] == [Path("/mnt/shared/runs/one"), Path("/mnt/shared/runs/two")]
    assert head.recipes[0].data is not None
    assert head.recipes[0].data.train.annotations == here / "scenes/instances.json"
    job_details: Any = type("Details", (), {"metadata": head.sent["metadata"]})
    assert set(head.sent["metadata"]) == {TARGETS}
    assert targets_of(job_details) == {name: here / "mine" / name / "checkpoint" for name in ("one", "two")}


def test_a_recipe_that_begins_from_another_ones_run_finds_it_on_the_cluster(here: Path) -> None:
    head = Head()
    tuned = recipe("tuned", start={"checkpoint": "mine/base/checkpoint", "classes": {"car": "auto"}})
    send(head, tuned, recipe("base"), recipe("other", start={"checkpoint": "coco"}), storage="/mnt/shared/runs")
    starts = {one.name: one.start and one.start.checkpoint for one in head.recipes}
    assert starts == {"base": None, "other": here / "coco", "tuned": Path("/mnt/shared/runs/base/checkpoint")}


def test_two_recipes_of_one_name_are_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match="name: expected another for each recipe; got one, one"):
        send(Head(), recipe("one"), recipe("one"))


def test_a_checkpoint_that_is_here_already_is_not_trained_again_unless_resuming(here: Path) -> None:
    (here / "mine" / "one" / "checkpoint").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"output: .*mine/one/checkpoint is there already"):
        send(Head(), recipe("one"))
    send(Head(), recipe("one"), resume=True)


@pytest.mark.parametrize("storage", ["runs", "s3://bucket/runs", ""])
def test_storage_that_is_no_folder_of_the_cluster_is_refused(here: Path, storage: str) -> None:
    with pytest.raises(ConfigError, match=rf"--storage: expected an absolute path .*; got {storage}$"):
        send(Head(), recipe("one"), storage=storage)
