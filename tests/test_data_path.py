"""Paths and URLs in a recipe: what is written there comes back, and nothing but paths becomes absolute."""

from pathlib import Path

import pytest

from tests.tiny import TINY_DETECTOR
from tis_ray.config import CocoFolder, Recipe, WadFolder, dump, parse
from tis_ray.config.data_path import absolute, is_remote, place
from tis_ray.errors import ConfigError
from tis_ray.training import run_folder

RECIPE = {"name": "tiny", "data": {"train": {"annotations": "unused.json"}}, "detector": TINY_DETECTOR}
URL = "memory://bucket/a set/instances.json"


@pytest.mark.parametrize("text", ["a/b.json", "/a/b.json", "../b", "c:d", "a//b"])
def test_paths_stay_paths(text):
    assert place(text) == Path(text)
    assert type(place(text)) is type(Path())
    assert not is_remote(place(text))


@pytest.mark.parametrize("text", ["file:///data/a%20b.json", "local:///data/a b.json", "FILE:///data/a b.json"])
def test_urls_of_files_are_paths_too(text):
    assert place(text) == Path("/data/a b.json")


@pytest.mark.parametrize("text", [URL, "https://host:8080/x/instances.json", "http://host/a.json"])
def test_urls_keep_their_text(text):
    found = place(text)
    assert is_remote(found)
    assert str(found) == text
    assert str(absolute(found)) == text
    assert str(found.parent / "images" / "1.jpg") == text.rpartition("/")[0] + "/images/1.jpg"
    assert place(found) is found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "s3://bucket/x.json",
            "expected a path, or a URL whose file system's package is installed; got s3://bucket/x.json",
        ),
        ("gs://bucket/x.json", "gcsfs"),
        ("nowhere://bucket/x.json", r"expected a path, or a URL that fsspec knows \(s3, .*\); got nowhere://bucket"),
    ],
)
def test_a_file_system_that_is_not_there_is_named(text, expected):
    with pytest.raises(ConfigError, match=expected):
        place(text)
    with pytest.raises(ConfigError, match=rf"data\.train\.annotations: .*{expected}"):
        parse(Recipe, RECIPE | {"data": {"train": {"annotations": text}}}, source="r.yaml")


def test_a_missing_package_is_named():
    with pytest.raises(ConfigError, match="Install s3fs"):
        place("s3://bucket/x.json")


def test_a_recipe_with_urls_comes_back_from_its_dump():
    content = RECIPE | {
        "data": {
            "train": {"annotations": URL, "images": "https://host/images", "stuff": "memory://b/maps"},
            "val": {"labels": "labels", "images": "memory://b/pictures"},
        },
    }
    recipe = run_folder.absolute(parse(Recipe, content, source="r.yaml"))
    assert recipe.data is not None
    again = parse(Recipe, dump(recipe), source="r.yaml")
    assert again == recipe
    train = dump(recipe)["data"]["train"]
    assert (train["annotations"], train["images"], train["stuff"]) == (URL, "https://host/images", "memory://b/maps")
    val = dump(recipe)["data"]["val"]
    assert (val["labels"], val["images"]) == (str(Path("labels").resolve()), "memory://b/pictures")
    assert recipe.data.train.missing() is None  # whether it is there is found out by reading


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("output", {"output": "memory://bucket/runs"}),
        ("start.checkpoint", {"start": {"checkpoint": "memory://bucket/checkpoint"}}),
        ("data.train.labels", {"data": {"train": {"labels": "memory://b/labels", "images": "i"}}}),
        ("data.train.frames.0", {"data": {"train": {"labels": "l", "images": "i", "frames": "memory://b/x.txt"}}}),
    ],
)
def test_what_must_be_on_this_machine_says_so(key, content):
    with pytest.raises(
        ConfigError, match=rf"{key}: expected a path of this machine or .*mounted on it; got memory://b"
    ):
        parse(Recipe, RECIPE | content, source="r.yaml")


def test_urls_of_files_may_stand_where_a_path_must():
    folder = WadFolder(labels="file:///labels", images="file:///images", frames="file:///a.txt")
    assert (folder.labels, folder.images, folder.frames) == (Path("/labels"), Path("/images"), (Path("/a.txt"),))


def test_other_values_are_no_paths():
    with pytest.raises(ValueError, match="expected a path or a URL"):
        CocoFolder(annotations=3)
