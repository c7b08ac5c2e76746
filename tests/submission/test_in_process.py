"""`tis-ray predict` in one process without Ray: the answers of `tis_ray.load`, and of a service; and a kill."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from rich.console import Console

import tis_ray
from tests.running_service import write_ensemble
from tis_ray.config import load_ensemble
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.images import open_image
from tis_ray.runs.folder import open_run
from tis_ray.submission import run as batch
from tis_ray.submission.looking import is_alone
from tis_ray.submission.writing import Summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ensemble(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(images / f"{i}.png")
    return images


def predict(ensemble: Path, images: Path, out: Path, **options: Any) -> Summary:
    return batch.predict(load_ensemble(ensemble), images, out, console=Console(quiet=True), **options)


def test_few_images_are_segmented_as_one_process_does_and_noted_with_all_that_is_known(
    ensemble: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    summary = predict(ensemble, folder, out, images_per_shard=4, keep_views=True, views=tmp_path / "views")
    assert (summary.num_images, summary.failed) == (10, ())
    local = tis_ray.load(ensemble)
    run = open_run(tmp_path / "out.run")
    expected = []
    for noted, views, path in zip(run.outcomes(), run.views(), sorted(folder.iterdir()), strict=True):
        pixels = open_image(path)
        found = local.predict(pixels)
        np.testing.assert_array_equal(noted.instances.boxes, found.boxes)
        np.testing.assert_array_equal(noted.instances.scores, found.scores)
        expected += to_results(
            found, image_id=noted.image_id, categories=local.categories, size_hw=(pixels.shape[0], pixels.shape[1])
        )
        assert [one.view for one in noted.outcomes] == [view.name for view in local.views]
        assert all(one.status == "ok" and one.seconds > 0 for one in noted.outcomes)
        own = local.predict_views(pixels)
        assert [one.num_instances for one in noted.outcomes] == [len(own[view]) for view in local.views]
        assert list(views.found) == list(local.views)
        for view, instances in own.items():
            np.testing.assert_array_equal(views.found[view].boxes, instances.boxes)
        assert (noted.file_bytes, len(noted.model_version)) == (path.stat().st_size, 12)
    assert orjson.loads(out.read_bytes()) == expected
    assert (tmp_path / "views" / "fuse.yaml").exists()


def test_a_killed_run_goes_on_and_writes_the_file_of_an_uninterrupted_one(
    ensemble: Path, folder: Path, tmp_path: Path
) -> None:
    """Killed once the third of five shards is written and has yet to get its name."""
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    predict(ensemble, folder, whole, images_per_shard=2)
    arguments = ["rename", 3, "predict", ensemble, "--images", folder, "--out", out, "--images-per-shard", 2]
    command = [sys.executable, "-m", "tests.submission.killed_driver", *map(str, arguments)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    assert open_run(tmp_path / "out.run").done() == [0, 1]
    predict(ensemble, folder, out, resume=True)
    assert out.read_bytes() == whole.read_bytes()


def test_a_run_that_skips_what_is_missing_goes_on_as_it_began(ensemble: Path, folder: Path, tmp_path: Path) -> None:
    """What was missing at first stays left out; what went missing later stays as it was."""
    images, out = tmp_path / "images", tmp_path / "out.json"
    images.mkdir()
    for name in ("0.png", "1.png", "2.png"):
        (images / name).write_bytes((folder / name).read_bytes())
    (images / "list.txt").write_text("0.png\nnever.png\n1.png\n2.png\n")
    first = predict(ensemble, images / "list.txt", out, bad=BadEntries(skip=True))
    written = out.read_bytes()
    (images / "1.png").unlink()
    bad = BadEntries(skip=True)
    assert predict(ensemble, images / "list.txt", out, resume=True, bad=bad).num_instances == first.num_instances
    assert dict(bad.counts) == {"missing": 1}
    assert out.read_bytes() == written


def test_a_failed_image_is_looked_at_again_alone(ensemble: Path, folder: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out.json"
    images.mkdir()
    for path in sorted(folder.iterdir())[:4]:
        (images / path.name).write_bytes(path.read_bytes())
    good = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(bytes(len(good)))
    assert [one.file_name for one in predict(ensemble, images, out).failed] == ["1.png"]
    assert orjson.loads((tmp_path / "out.failed.json").read_bytes())[0]["file_name"] == "1.png"
    assert len(predict(ensemble, images, out, resume=True).failed) == 1  # not unasked

    for path in images.iterdir():
        path.write_bytes(good if path.name == "1.png" else bytes(path.stat().st_size))  # the others are not looked at
    assert predict(ensemble, images, out, retry=["failed"]).failed == ()
    predict(ensemble, folder, tmp_path / "whole.json")
    whole = [entry for entry in orjson.loads((tmp_path / "whole.json").read_bytes()) if entry["image_id"] <= 4]
    assert orjson.loads(out.read_bytes()) == whole
    assert not (tmp_path / "out.failed.json").exists()


def test_of_a_member_that_draws_masks_alone_the_fused_boxes_are_kept(
    ensemble: Path, folder: Path, tmp_path: Path
) -> None:
    loaded = load_ensemble(ensemble, ["fusion.members={one: {role: boxes}, two: {role: masks}}"])
    batch.predict(loaded, folder, tmp_path / "out.json", console=Console(quiet=True), keep_views=True)
    run = open_run(tmp_path / "out.run")
    drawn = 0
    for noted, kept in zip(run.outcomes(), run.views(), strict=True):
        for view, found in kept.found.items():
            if view.member == "one":
                assert found.masks is None
            else:
                drawn += len(found)
                assert found.masks is not None
                fused = {tuple(box) for box in noted.instances.boxes.tolist()}
                assert {tuple(box) for box in found.boxes.tolist()} <= fused
        told = {one.view: one.num_instances for one in noted.outcomes}
        assert told == {view.name: len(kept.found.get(view, ())) for view in loaded.views}
    assert drawn > 0


def test_images_that_are_missing_are_refused_or_left_out_before_anything_starts(
    ensemble: Path, folder: Path, tmp_path: Path
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{folder / '0.png'}\nnone.png\n{folder / '1.png'}\n")
    with pytest.raises(DataError, match=r"list\.txt: expected a file; there is no .*none\.png"):
        predict(ensemble, listing, tmp_path / "out.json")
    assert not (tmp_path / "out.run").exists()
    bad = BadEntries(skip=True)
    assert predict(ensemble, listing, tmp_path / "out.json", bad=bad).num_images == 2
    assert bad.total == 1
    noted = orjson.loads((tmp_path / "out.images.json").read_bytes())["images"]
    assert [entry["id"] for entry in noted] == [one.image_id for one in open_run(tmp_path / "out.run").outcomes()]


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("out.json", {"in_process": True, "replicas": ["2"]}, "--in-process: expected no --replicas beside it"),
        ("out.json", {"in_process": True, "readers": "cluster"}, "--in-process: expected no --readers cluster beside"),
        ("out.json", {"fresh": True, "resume": True}, "--fresh: expected no --resume or --retry beside it"),
        ("out.json", {"fresh": True, "retry": ["failed"]}, "--fresh: expected no --resume or --retry beside it"),
        ("out.run", {}, "--out: expected a file outside of the run's folder"),
        ("a.run/out.json", {"run": "a.run"}, "--out: expected a file outside of the run's folder"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_starts(
    ensemble: Path, folder: Path, tmp_path: Path, out: str, options: dict[str, Any], message: str
) -> None:
    if "run" in options:
        options = {"run": tmp_path / options["run"]}
    with pytest.raises(ConfigError, match=message):
        predict(ensemble, folder, tmp_path / out, **options)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("num_images", "asked", "alone"),
    [
        (100, {}, True),
        (101, {}, False),
        (101, {"asked": True}, True),
        (1, {"asked": False}, False),
        (1, {"address": "head:6379"}, False),
        (1, {"wanted": {"one@64": 2}}, False),
        (1, {"readers": "cluster"}, False),
        (1, {"readers": "here"}, True),
    ],
)
def test_few_images_are_one_processs_unless_something_speaks_for_a_service(
    num_images: int, asked: dict[str, Any], alone: bool
) -> None:
    nothing = {"address": None, "wanted": {}, "readers": None, "asked": None}
    assert is_alone(num_images, **(nothing | asked)) is alone
