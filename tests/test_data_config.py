"""The data section of a recipe: two kinds of data told apart by their keys, and regions."""

from pathlib import Path

import pytest

from tests.tiny import TINY_DETECTOR
from tis_ray.config import CocoFolder, Recipe, WadFolder, dump, parse
from tis_ray.errors import ConfigError

COCO = {"annotations": "x.json"}
WAD = {"labels": "labels", "images": "images"}
KINDS = (
    r"expected the keys of COCO data \(annotations, images, stuff, unlabelled\) "
    r"or of WAD's \(labels, images, frames, rider\); got "
)


def recipe(*overrides: str, train: object = COCO) -> Recipe:
    return parse(Recipe, {"name": "x", "data": {"train": train}, "detector": TINY_DETECTOR}, overrides, source="r.yaml")


def test_the_keys_tell_the_kind_of_data():
    assert recipe().data.train == CocoFolder(annotations=Path("x.json"))
    mixed = recipe("data.val={labels: l, images: i, frames: [a.txt, b.txt], rider: true}").data
    assert isinstance(mixed.train, CocoFolder)
    assert mixed.val == WadFolder(labels="l", images="i", frames=("a.txt", "b.txt"), rider=True)
    assert recipe(train=WAD).data.train == WadFolder(labels="labels", images="images")
    assert recipe("data.train.frames=one.txt", train=WAD).data.train.frames == (Path("one.txt"),)


@pytest.mark.parametrize(
    "train", [COCO, {**COCO, "images": "i", "stuff": "s"}, WAD, {**WAD, "frames": ["a.txt"], "rider": True}]
)
def test_a_section_is_read_back_from_what_is_dumped(train):
    section = recipe("data.regions.valid_training_region={margin: [0, 100]}", train=train)
    assert parse(Recipe, dump(section), source="again") == section


@pytest.mark.parametrize(
    ("train", "overrides", "message"),
    [
        (COCO, ["data.train.labels=y"], rf"data\.train: {KINDS}annotations, labels"),
        (COCO, ["data.train.rider=true"], rf"data\.train: {KINDS}annotations, rider"),
        ({"stuff": "y"}, [], r"data\.train\.annotations: this key is required"),
        (WAD, ["data.train.stuff=y"], r"data\.train\.stuff: unknown key; .*"),
        ({}, [], rf"data\.train: {KINDS}\{{\}}"),
        ("x.json", [], rf"data\.train: {KINDS}x\.json"),
        (None, [], rf"data\.train: {KINDS}None"),
        (COCO, ["data.val=[a.json]"], rf"data\.val: {KINDS}\['a\.json'\]"),
        ({"labels": "y"}, [], r"data\.train\.images: this key is required"),
        ({"rider": True, "images": "y"}, [], r"data\.train\.labels: this key is required"),
        ({"images": "y"}, [], r"data\.train\.annotations: this key is required"),
        (WAD, ["data.train.frame=y"], r"data\.train\.frame: unknown key; did you mean 'frames'\?; .*"),
        (WAD, ["data.train.frames=3"], r"data\.train\.frames: .*; got 3"),
        (WAD, ["data.train.rider=perhaps"], r"data\.train\.rider: .*; got 'perhaps'"),
        (
            COCO,
            ["data.regions.valid_training_region.probability=2"],
            r"data\.regions\.valid_training_region\.probability: .*; got 2",
        ),
        (
            COCO,
            ["data.regions.valid_training_region.margin=-1"],
            r"data\.regions\.valid_training_region\.margin\.0: .*; got -1.*",
        ),
        (
            COCO,
            ["data.regions.valid_training_region.margin=[9, 2]"],
            r"data\.regions\.valid_training_region\.margin: expected .* range \[low, high\]; got \[9, 2\]",
        ),
        (COCO, ["data.regions.valid_region={}"], r"data\.regions\.valid_region: unknown key; did you mean .*"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(train, overrides, message):
    with pytest.raises(ConfigError, match=rf"^r\.yaml: {message}$") as caught:
        recipe(*overrides, train=train)
    assert "\n" not in str(caught.value)


def test_a_region_is_absent_unless_it_is_named():
    assert recipe().data.regions.valid_training_region is None
    named = recipe("data.regions.valid_training_region={}").data.regions.valid_training_region
    assert (named.probability, named.margin) == (0.5, (50, 50))
    ranged = recipe("data.regions.valid_training_region.margin=[0, 100]").data.regions.valid_training_region
    assert ranged.margin == (0, 100)


def test_paths_become_absolute_and_missing_ones_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = WadFolder(labels="labels", images="images", frames=("a.txt", "b.txt")).absolute()
    assert folder == WadFolder(
        labels=tmp_path / "labels", images=tmp_path / "images", frames=(tmp_path / "a.txt", tmp_path / "b.txt")
    )
    assert folder.missing() == f"labels: expected a folder; got {tmp_path / 'labels'}"
    folder.labels.mkdir()
    assert folder.missing() == f"images: expected a folder; got {tmp_path / 'images'}"
    folder.images.mkdir()
    folder.frames[0].touch()
    assert folder.missing() == f"frames: expected lists of frames; got {tmp_path / 'b.txt'}"
    folder.frames[1].touch()
    assert folder.missing() is None
    coco = CocoFolder(annotations="x.json").absolute()
    assert coco == CocoFolder(annotations=tmp_path / "x.json")
    assert coco.missing() == f"annotations: expected a COCO JSON file; got {tmp_path / 'x.json'}"
    coco.annotations.touch()
    assert coco.missing() is None
    mapped = CocoFolder(annotations="x.json", images="i", stuff="maps").absolute()
    assert (mapped.images, mapped.stuff) == (tmp_path / "i", tmp_path / "maps")
    assert mapped.missing() == f"stuff: expected a folder of label maps; got {tmp_path / 'maps'}"
    mapped.stuff.mkdir()
    assert mapped.missing() is None
