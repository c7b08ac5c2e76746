"""What a batch run makes of the folder that it finds, and what it finds left to do there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import CATEGORIES
from tis_ray.config import Ensemble, parse
from tis_ray.errors import ConfigError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.runs.folder import RunFolder, open_run
from tis_ray.runs.records import ImageOutcome, ImageViews, Status
from tis_ray.submission.beginning import ToDo, begun, run_path, to_do

ENSEMBLE = parse(Ensemble, {"members": {"a": {"checkpoint": "a", "scales": [64]}}}, source="ensemble.yaml")
STATUSES: list[Status] = ["ok", "failed", "ok", "degraded", "ok"]


@pytest.fixture
def images(tmp_path: Path) -> list[ListedImage]:
    listed = [ListedImage(10 + i, f"{i}.png", tmp_path / f"{i}.png") for i in range(5)]
    for image in listed:
        image.path.write_bytes(b"1234")
    return listed


@pytest.fixture
def begin(images: list[ListedImage], tmp_path: Path) -> Callable[..., tuple[RunFolder, list[str]]]:
    def begin(about: dict[str, Any] | None = None, **options: Any) -> tuple[RunFolder, list[str]]:
        told: list[str] = []
        fixed = {"ensemble": ENSEMBLE, "categories": CATEGORIES, "images": images, "images_per_shard": 2}
        run = begun(tmp_path / "a.run", about or {"x": 1}, **(fixed | options), say=told.append)
        return run, told

    return begin


def write(run: RunFolder, *numbers: int) -> None:
    for number in numbers:
        found = [
            ImageOutcome(one.id, one.file_name, (8, 9), STATUSES[one.id - 10], Instances.empty(), file_bytes=4)
            for one in run.images_of(number)
        ]
        run.write(
            number,
            found,
            [ImageViews(one.image_id, one.size_hw, {ENSEMBLE.views[0]: Instances.empty()}) for one in found],
        )


def left(run: RunFolder, **options: Any) -> tuple[ToDo, list[str]]:
    told: list[str] = []
    return to_do(run, **options, say=told.append), told


def test_the_run_lies_beside_the_results() -> None:
    assert run_path(Path("out/results.json")) == Path("out/results.run")


def test_a_new_run_has_everything_to_do(begin: Callable[..., Any]) -> None:
    run, told = begin()
    assert told == []
    assert left(run) == (ToDo([0, 1, 2], {}, 5), [])


def test_a_run_goes_on_where_it_was(begin: Callable[..., Any]) -> None:
    write(begin()[0], 1)
    run, told = begin(resume=True)
    assert told == []
    todo, told = left(run)
    assert todo == ToDo([0, 2], {}, 3, has_worked=True)
    assert told == ["2 of 5 images are done already"]
    write(run, 0, 2)
    assert left(run) == (ToDo([], {}, 0, has_worked=True), ["5 of 5 images are done already"])


@pytest.mark.parametrize(
    ("retry", "again"),
    [(["failed"], {0: {11}}), (["degraded"], {1: {13}}), (["failed", "degraded"], {0: {11}, 1: {13}})],
    ids=["failed", "degraded", "both"],
)
def test_images_are_tried_again_alone(begin: Callable[..., Any], retry: list[Status], again: dict) -> None:
    run, _ = begin()
    write(run, 0, 1)
    todo, _ = left(run, retry=retry)
    assert todo == ToDo(sorted({*again, 2}), again, len(again) + 1, has_worked=True)


def test_images_that_have_changed_are_looked_at_again_and_ones_that_are_gone_are_not(
    begin: Callable[..., Any], images: list[ListedImage]
) -> None:
    run, _ = begin()
    write(run, 0, 1, 2)
    images[2].path.write_bytes(b"12345")
    images[0].path.unlink()
    todo, told = left(run)
    assert todo == ToDo([1], {1: {12}}, 1, has_worked=True)
    assert "1 images have changed since they were looked at and are looked at again" in told


def test_a_damaged_shard_is_done_anew(begin: Callable[..., Any]) -> None:
    run, _ = begin()
    write(run, 0, 1, 2)
    run.shard(1).write_bytes(run.shard(1).read_bytes()[:-20])
    todo, told = left(run)
    assert todo == ToDo([1], {}, 2, has_worked=True)
    assert "000001.parquet: expected a shard of a batch run; got " in told[0]
    assert told[0].endswith("; its images are looked at again")
    assert run.done() == [0, 2]


def test_a_shard_of_other_images_is_done_anew(begin: Callable[..., Any]) -> None:
    run, _ = begin()
    write(run, 0, 1, 2)
    run.shard(0).write_bytes(run.shard(1).read_bytes())
    todo, told = left(run)
    assert todo.numbers == [0]
    assert r"000000.parquet: expected the images [10, 11]...; got [12, 13]..." in told[0]


def test_a_shard_without_its_views_is_done_anew(begin: Callable[..., Any]) -> None:
    run, _ = begin(keep_views=True)
    write(run, 0, 1, 2)
    run.view_shard(2).unlink()
    todo, told = left(run)
    assert todo.numbers == [2]
    assert "views/000002.parquet: expected a shard of kept views" in told[0]


def test_a_shard_whose_views_are_damaged_is_done_anew(begin: Callable[..., Any]) -> None:
    run, _ = begin(keep_views=True)
    write(run, 0, 1, 2)
    whole = run.view_shard(2).read_bytes()
    run.view_shard(2).write_bytes(whole[:4] + bytes(60) + whole[64:])  # the footer stays whole
    todo, told = left(run)
    assert todo.numbers == [2]
    assert "views/000002.parquet: expected a shard of kept views" in told[0]


def test_a_shard_of_another_run_is_done_anew(begin: Callable[..., Any]) -> None:
    run, _ = begin({"x": 1})
    write(run, 0, 1)
    others = run.shard(0).read_bytes()
    run, _ = begin({"x": 2}, fresh=True)
    write(run, 0, 1)
    run.shard(0).write_bytes(others)
    todo, told = left(run)
    assert todo.numbers == [0, 2]
    assert "which is another one than" in told[0]


def test_a_run_that_is_there_is_neither_gone_on_with_nor_deleted_unasked(begin: Callable[..., Any]) -> None:
    run, _ = begin()
    write(run, 0)
    with pytest.raises(ConfigError, match=r"a\.run holds a run, 2 of 5 images done; .*--resume.*--fresh"):
        begin()
    assert begin(resume=True)[0].done() == [0]
    assert begin(fresh=True)[0].done() == []


def test_a_run_in_which_nothing_is_done_gives_way(begin: Callable[..., Any]) -> None:
    begin()
    run, told = begin({"x": 2})
    assert (run.about, told) == ({"x": 2}, [])


def test_going_on_without_a_run_begins_one_and_says_so(begin: Callable[..., Any]) -> None:
    run, told = begin(resume=True)
    assert told == [f"no run is in {run.path} to go on with; a new one begins"]


def test_a_run_keeps_what_it_is_of(begin: Callable[..., Any]) -> None:
    write(begin()[0], 0)
    with pytest.raises(ConfigError, match=r"x: expected 1, with which the run in .* began; got 2"):
        begin({"x": 2}, resume=True)
    with pytest.raises(ConfigError, match="--keep-views: expected a run that began with it"):
        begin(resume=True, keep_views=True)
    with pytest.raises(ConfigError, match=r"--images-per-shard: expected 2, .*; got 3"):
        begin(resume=True, images_per_shard=3)
    assert begin(resume=True, images_per_shard=None)[0].images_per_shard == 2


def test_a_run_that_keeps_views_goes_on_keeping_them(begin: Callable[..., Any]) -> None:
    write(begin(keep_views=True)[0], 0)
    assert begin(resume=True)[0].keeps_views


def test_images_and_checkpoints_are_looked_for_where_they_lie_now(
    begin: Callable[..., Any], images: list[ListedImage], tmp_path: Path
) -> None:
    write(begin()[0], 0)
    moved = parse(Ensemble, {"members": {"a": {"checkpoint": "new/a", "scales": [64]}}}, source="ensemble.yaml")
    elsewhere = [ListedImage(one.id, one.file_name, tmp_path / "new" / one.file_name) for one in images]
    run, _ = begin(resume=True, images=elsewhere, ensemble=moved)
    assert run.images == elsewhere
    assert open_run(run.path).images == elsewhere
    assert run.ensemble.members["a"].checkpoint.name == "a"
    assert run.ensemble.members["a"].checkpoint.parent.name == "new"
