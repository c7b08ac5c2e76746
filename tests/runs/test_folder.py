"""The folder of a run: what it is made of, what becomes of what is there already, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.tiny import CATEGORIES
from tis_ray.config import Ensemble, parse
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.runs.folder import RUN, RunFolder, check_own, create, holds_run, open_run
from tis_ray.runs.records import ImageOutcome, ImageViews

MEMBERS = {"a": {"checkpoint": "a", "scales": [64, 96]}}
ENSEMBLE = parse(Ensemble, {"members": MEMBERS, "fusion": {"top_k": 7}}, source="ensemble.yaml")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunFolder]:
    def new(count: int = 5, *, per_shard: int = 2, keeps_views: bool = False) -> RunFolder:
        images = [ListedImage(10 + i, f"{i}.png", Path(f"images/{i}.png"), (4, 5 + i)) for i in range(count)]
        options = {"images_per_shard": per_shard, "keeps_views": keeps_views}
        folder = tmp_path / "a.run"
        return create(folder, {"x": 1}, ensemble=ENSEMBLE, categories=CATEGORIES, images=images, **options)

    return new


def outcomes(run: RunFolder, number: int) -> list[ImageOutcome]:
    found = Instances.of(np.array([[0, 0, 2, 2]], np.float32), [0.5], [1])
    return [ImageOutcome(one.id, one.file_name, one.size_hw, "ok", found) for one in run.images_of(number)]


def test_a_run_is_opened_as_it_was_made(new_run: Callable[..., RunFolder]) -> None:
    run = new_run()
    opened = open_run(run.path)
    assert opened == run
    assert opened.ensemble.views == ENSEMBLE.views
    assert opened.ensemble.fusion.top_k == 7
    assert opened.categories == CATEGORIES
    assert [(one.id, one.file_name, one.size_hw) for one in opened.images][1:3] == [
        (11, "1.png", (4, 6)),
        (12, "2.png", (4, 7)),
    ]
    assert opened.images[0].path == Path("images/0.png").absolute()  # found from anywhere
    assert (opened.num_shards, [len(opened.images_of(i)) for i in range(3)]) == (3, [2, 2, 1])
    assert holds_run(run.path)


def test_shards_are_done_once_they_are_written_in_whatever_order(new_run: Callable[..., RunFolder]) -> None:
    run = new_run()
    assert (run.done(), list(run.outcomes())) == ([], [])
    for number in (2, 0):
        run.write(number, outcomes(run, number))
    assert run.done() == [0, 2]
    assert [one.image_id for one in run.outcomes()] == [10, 11, 14]
    run.discard(0)
    assert run.done() == [2]


def test_a_shard_of_more_images_than_are_read_at_once_keeps_their_order(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(150, per_shard=100, keeps_views=True)
    view = ENSEMBLE.views[0]
    for number in (0, 1):
        found = outcomes(run, number)
        run.write(number, found, [ImageViews(one.image_id, one.size_hw, {view: one.instances}) for one in found])
    assert [(one.image_id, one.size_hw) for one in run.outcomes()] == [(10 + i, (4, 5 + i)) for i in range(150)]
    assert [(one.image_id, list(one.found)) for one in run.views()] == [(10 + i, [view]) for i in range(150)]
    np.testing.assert_array_equal([one.instances.boxes[0] for one in run.outcomes()], [[0, 0, 2, 2]] * 150)


def test_views_that_nobody_kept_are_refused(new_run: Callable[..., RunFolder]) -> None:
    with pytest.raises(ConfigError, match="expected a run with kept views, `tis-ray predict --keep-views`"):
        list(new_run().views())


def test_a_new_run_takes_the_place_of_an_old_one_and_of_what_is_left_of_one(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(keeps_views=True)
    run.write(0, outcomes(run, 0), [])
    again = new_run(keeps_views=True)
    assert again.done() == []
    assert not again.view_shard(0).exists()
    again.write(1, outcomes(again, 1))
    (again.path / RUN).unlink()  # as a kill leaves it while the new one is made
    assert not holds_run(again.path)
    assert new_run().done() == []


def test_what_killed_processes_left_is_swept_away(new_run: Callable[..., RunFolder]) -> None:
    run = new_run()
    run.write(0, outcomes(run, 0))
    left = [run.path / ".partial-1-run.json", run.path / "shards" / ".partial-1-000001.parquet"]
    for path in left:
        path.write_bytes(b"half")
    run.sweep()
    assert not any(path.exists() for path in left)
    assert run.done() == [0]


def test_images_may_move(new_run: Callable[..., RunFolder]) -> None:
    run = new_run()
    assert run.moved(run.images, ENSEMBLE) is run
    elsewhere = [ListedImage(one.id, one.file_name, Path("/mnt") / one.file_name, one.size_hw) for one in run.images]
    assert run.moved(elsewhere, ENSEMBLE).images == elsewhere
    assert open_run(run.path).images == elsewhere


@pytest.mark.parametrize("name", ["notes.txt", "shards/mine.parquet"])
def test_somebodys_folder_is_not_taken_for_a_run(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"--run: expected a folder of a run, or a new one; .* has "):
        check_own(tmp_path)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"format": "run 9"}'], ids=["none", "torn", "list", "newer"])
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / RUN).write_bytes(content)
    with pytest.raises(DataError, match="expected the folder of a batch run; got "):
        open_run(tmp_path)


def test_what_a_run_is_of_is_told_in_its_folder(new_run: Callable[..., RunFolder]) -> None:
    content = orjson.loads((new_run().path / RUN).read_bytes())
    assert content["about"] == {"x": 1}
    assert len(content["digest"]) == 16
