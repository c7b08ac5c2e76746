"""The two files of a split: nothing is lost, changed or in both, and they can be trained on."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tis_ray.curation.split_files import split_coco, split_wad
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats import coco, wad


def content(*, videos: int = 6, each: int = 3) -> dict[str, Any]:
    images = [
        {"id": 10 * v + i, "file_name": f"v{v}/{i}.jpg", "width": 60, "height": 40, "neg_category_ids": [3], "näme": v}
        for v in range(videos)
        for i in range(each)
    ]
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 1 + n % 2, "bbox": [1.5, 2, 10.25, 10], "extra": {"a": [n]}}
        for n, image in enumerate(images)
    ]
    annotations[0]["iscrowd"] = 1
    categories = [{"id": i, "name": f"class {i}", "frequency": "r"} for i in (1, 2, 3)]
    info = {"year": 2020, "about": "<é>"}
    return {"info": info, "images": images, "licenses": [], "annotations": annotations, "categories": categories}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "set" / "instances.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content()))
    return path


@pytest.mark.parametrize("by", ["image", "video"])
def test_every_entry_is_in_one_part_as_it_was(source: Path, tmp_path: Path, by: str):
    train, val = split_coco(source, tmp_path / "parts", share=0.34, by=by)
    whole = content()
    parts = [json.loads(part.path.read_text()) for part in (train, val)]
    for key in ("images", "annotations"):
        assert sorted([*parts[0][key], *parts[1][key]], key=lambda one: one["id"]) == whole[key]
        assert [[one["id"] for one in part[key]] for part in parts] == [
            sorted(one["id"] for one in part[key]) for part in parts
        ], "in the order of the file"
    for part in parts:
        ids = {image["id"] for image in part["images"]}
        assert {one["image_id"] for one in part["annotations"]} == ids
        assert list(part) == list(whole)
        assert {key: part[key] for key in ("info", "licenses", "categories")} == {
            key: whole[key] for key in ("info", "licenses", "categories")
        }
    assert [(train.images, val.images), train.objects + val.objects] == [(12, 6), 17]


def test_no_video_is_in_both_parts(source: Path, tmp_path: Path):
    train, val = split_coco(source, tmp_path / "parts", share=0.2, by="video")
    videos = [
        {image["file_name"].split("/")[0] for image in json.loads(part.path.read_text())["images"]}
        for part in (train, val)
    ]
    assert not videos[0] & videos[1]
    assert [len(one) for one in videos] == [train.videos, val.videos] == [5, 1]


def test_the_parts_can_be_read(source: Path, tmp_path: Path):
    for part in split_coco(source, tmp_path / "parts", share=0.3, by="image"):
        dataset = coco.read(part.path, source.parent)
        assert len(dataset) == part.images
        assert part.videos is None


def test_numbers_that_json_lacks_are_kept_too(source: Path, tmp_path: Path):
    whole = content()
    whole["annotations"][1]["extra"] = math.nan
    source.write_text(json.dumps(whole))
    parts = split_coco(source, tmp_path / "parts", share=0.3, by="image")
    found = [
        one["extra"] for part in parts for one in json.loads(part.path.read_text())["annotations"] if one["id"] == 1
    ]
    assert math.isnan(found[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "images: expected a list"),
        ({"annotations": [{"image_id": 5, "category_id": 1}]}, "expected image ids among images; got 5$"),
        ({"annotations": [{"image_id": 5, "category_id": 1, "iscrowd": 1}]}, "expected image ids among images; got 5$"),
        ({"annotations": ["a"]}, "annotations: expected objects with image_id and category_id; got 'a'"),
        ({"images": [{"id": 1}, {"id": 1}]}, "images: expected each id once; got 1 twice"),
        ({"images": [{"id": "1"}]}, r"images\[0\]: expected an object with a whole number as id"),
    ],
    ids=["no list", "lost image", "lost crowd", "no object", "id twice", "id a text"],
)
def test_what_cannot_be_split_is_refused_and_leaves_nothing(source: Path, tmp_path: Path, change: dict, message: str):
    source.write_text(json.dumps(content() | change))
    with pytest.raises(DataError, match=message):
        split_coco(source, tmp_path / "parts", share=0.3, by="image")
    assert not list((tmp_path / "parts").glob("*"))


def test_wrong_options_are_refused_and_the_source_is_not_written_over(source: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="--by: expected image or video; got 'frame'"):
        split_coco(source, tmp_path, share=0.3, by="frame")
    with pytest.raises(ConfigError, match="--val: expected a share between 0 and 1; got 20"):
        split_coco(source, tmp_path, share=20, by="image")
    with pytest.raises(ConfigError, match="--video-pattern: expected --by video"):
        split_coco(source, tmp_path, share=0.3, by="image", pattern="(a)")
    train = source.rename(source.with_name("train.json"))
    before = train.read_bytes()
    with pytest.raises(ConfigError, match="--out: expected another folder"):
        split_coco(train, train.parent, share=0.3, by="image")
    assert train.read_bytes() == before


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Six frames of three recordings, a minute apart, two frames each; the last alone has a person."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for minute in range(3):
        for i in range(2):
            pixels = np.full((20, 30), 255, np.uint16)
            pixels[2:8, 2:8] = (36 if minute == 2 else 33) * 1000
            pixels[10:12, 10:12] = 65535
            Image.fromarray(pixels).save(folder / f"170908_06{minute:02}00{i}00_Camera_5_instanceIds.png")
    return folder


def test_wads_frames_are_parted_by_recording_into_lists_that_can_be_read(labels: Path, tmp_path: Path):
    train, val = split_wad(labels, tmp_path / "parts", share=0.3, by="video")
    assert [(part.images, part.objects, part.classes, part.videos) for part in (train, val)] == [
        (4, 4, 2, 2),
        (2, 2, 1, 1),
    ], "the person, of one recording, stays in training"
    read = [wad.read(labels, labels, frames=[part.path]) for part in (train, val)]
    minutes = [{record.file_name[9:11] for record in part.images} for part in read]
    assert [len(one) for one in minutes] == [2, 1]
    assert "02" in minutes[0]


def test_wads_frames_alone_are_parted_when_asked(labels: Path, tmp_path: Path):
    train, val = split_wad(labels, tmp_path / "parts", share=0.5, by="image")
    assert (train.images, val.images, train.classes, val.classes) == (3, 3, 2, 2)


def test_a_list_of_frames_that_is_read_is_not_written_over(labels: Path, tmp_path: Path):
    names = sorted(path.name.removesuffix("_instanceIds.png") for path in labels.iterdir())
    frames = tmp_path / "train.txt"
    frames.write_text("".join(f"{name}.jpg\n" for name in names))
    before = frames.read_bytes()
    with pytest.raises(ConfigError, match=r"--out: expected another folder than that of .*train\.txt"):
        split_wad(labels, tmp_path, share=0.5, by="image", frames=[frames])
    assert frames.read_bytes() == before
