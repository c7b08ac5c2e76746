"""`tis-ray pseudo-label`, as a user calls it on results files."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import save_tiny_checkpoint
from tis_ray.cli import main
from tis_ray.config import CocoFolder
from tis_ray.formats.opening import open_dataset

CATEGORIES = [{"id": 33, "name": "car"}, {"id": 36, "name": "person"}, {"id": 39, "name": "bus"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labels of image 4, a pool of two images, and results for images 1 to 4."""
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (60, 40)).save(tmp_path / "images" / name)
    listed = [{"id": id_, "file_name": name, "width": 60, "height": 40} for id_, name in ((1, "a.jpg"), (2, "b.jpg"))]
    label = {"id": 1, "image_id": 2, "category_id": 33, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
    truth = {"images": listed, "annotations": [label], "categories": CATEGORIES}
    (tmp_path / "labels.json").write_text(json.dumps(truth))
    results = [
        {"image_id": 2, "category_id": 33, "bbox": [0, 0, 10, 9], "score": 0.9},
        {"image_id": 2, "category_id": 36, "bbox": [20, 0, 10, 9], "score": 0.7},
        {"image_id": 1, "category_id": 36, "bbox": [20, 0, 10, 9], "score": 0.45},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, code: int = 0
) -> str:
    """What the command says."""
    monkeypatch.setattr(sys, "argv", ["tis-ray", "pseudo-label", "results.json", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr()
    assert exit_.value.code == code, told.err
    return told.err if code else told.out


def test_missing_objects_go_where_training_looks_for_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = call(["--ground-truth", "labels.json", "--out", "new/missing.json"], monkeypatch, capsys)
    assert told.splitlines() == [
        "1 unlabelled boxes in 1 images: new/missing.json",
        "most of them: person 1",
        "train with --set data.train.unlabelled=new/missing.json",
    ]
    truth = open_dataset(CocoFolder(annotations=folder / "labels.json", unlabelled=folder / "new/missing.json"))
    assert truth.annotations(2).unlabelled.tolist() == [[20, 0, 30, 9]]
    made_by = json.loads((folder / "new/missing.json").read_text())["made_by"]
    assert (made_by["results"], made_by["ground_truth"], made_by["min_score"]) == ("results.json", "labels.json", 0.5)


def test_the_bounds_are_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--min-score", "0.4", "--max-overlap", "1"]
    told = call(["--ground-truth", "labels.json", "--out", "missing.json", *options], monkeypatch, capsys)
    assert told.startswith("3 unlabelled boxes in 2 images: missing.json\nmost of them: person 2, car 1\n")


@pytest.mark.parametrize("source", ["labels.json", "images"])
def test_images_get_labels(
    source: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_checkpoint = []
    if source == "images":
        save_tiny_checkpoint(folder / "teacher", data=None, test={"scales": [32]})
        of_checkpoint = ["--categories", "teacher"]
    told = call(["--images", source, "--out", "external.json", *of_checkpoint], monkeypatch, capsys)
    assert told.splitlines() == [
        "2 boxes without masks in 1 images: external.json",
        "most of them: car 1, person 1",
        "train with --set data.external.annotations=external.json --set data.external.images=images",
    ]
    truth = open_dataset(CocoFolder(annotations=folder / "external.json", images=folder / "images"))
    assert truth.images[0].path == folder / "images" / "b.jpg"
    assert [one["category_id"] for one in truth.entries(2)] == [33, 36]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--ground-truth, --images: expected one of them"),
        (["--ground-truth", "labels.json", "--images", "images"], "--ground-truth, --images: expected one of them"),
        (["--images", "images"], "--categories: expected what made the results"),
        (["--ground-truth", "labels.json", "--categories", "x"], "--categories: expected it beside --images"),
        (["--ground-truth", "labels.json", "--min-score", "1.5"], "--min-score: expected a number in 0..1; got 1.5"),
        (
            ["--ground-truth", "labels.json", "--max-overlap", "nan"],
            "--max-overlap: expected a number in 0..1; got nan",
        ),
        (["--ground-truth", "gone.json"], "gone.json: cannot be read"),
        (["--ground-truth", "out.json"], "--out: expected another file than those that are read; got out.json"),
    ],
)
def test_mistakes_are_said_in_a_line(
    arguments: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = call([*arguments, "--out", "out.json"], monkeypatch, capsys, code=2)
    assert message in " ".join(told.split())
    assert not (folder / "out.json").exists()
