"""Which images `tis-ray segment` asks about."""

from pathlib import Path

import pytest

from tis_ray.errors import InputError
from tis_ray.serving.picked import pick_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "in/c.webp", "in/deep/a.png", "in/list.json", "[1].png"):
        path = tmp_path / "frames" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "frames"


def picked(*sources, recursive: bool = False) -> tuple[list[str], int]:
    """What images are called below their folder, and how many other files there were."""
    found = pick_images(sources, recursive=recursive)
    return [image.name for image in found.images], found.num_others


def test_a_folder_gives_its_images_by_name(folder):
    assert picked(folder) == (["[1].png", "a.PNG", "b.jpg"], 2)


def test_the_folders_in_a_folder_are_taken_where_that_is_said(folder):
    names = ["[1].png", "a.PNG", "b.jpg", "in/c.webp", "in/deep/a.png"]
    assert picked(folder, recursive=True) == (names, 3)


@pytest.mark.parametrize(
    ("glob", "recursive", "expected"),
    [
        ("*.jpg", False, (["b.jpg"], 1)),
        ("*.[jJ]*", False, (["b.jpg"], 1)),
        ("**/*.png", False, (["[1].png", "in/deep/a.png"], 0)),
        ("i*/c.*", False, (["in/c.webp"], 0)),
        ("i*", False, (["in/c.webp"], 1)),
        ("i*", True, (["in/c.webp", "in/deep/a.png"], 1)),
        ("**", False, (["[1].png", "a.PNG", "b.jpg", "in/c.webp", "in/deep/a.png"], 3)),
    ],
)
def test_a_glob_gives_what_it_matches(folder, glob, recursive, expected):
    assert picked(folder / glob, recursive=recursive) == expected


def test_a_name_that_exists_is_no_glob(folder):
    assert picked(folder / "[1].png") == (["[1].png"], 0)


def test_a_file_that_is_named_is_taken_whatever_its_name(folder):
    assert picked(folder / "notes.txt", folder / ".hidden.jpg") == (["notes.txt", ".hidden.jpg"], 0)


def test_sources_are_taken_in_their_order_and_each_image_once(folder):
    found = pick_images([folder / "b.jpg", folder, folder / "*.jpg"])
    assert [Path(image.path).name for image in found.images] == ["b.jpg", "[1].png", "a.PNG"]
    assert all(Path(image.path).is_file() for image in found.images)


def test_relative_paths_stay_as_they_were_given(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert [image.path for image in pick_images(["frames/*.jpg", "frames/in"]).images] == [
        "frames/b.jpg",
        "frames/in/c.webp",
    ]
    monkeypatch.chdir(folder)
    assert [image.path for image in pick_images(["*.jpg", "."]).images] == ["b.jpg", "[1].png", "a.PNG"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere.jpg",
            r"images: expected files, folders or globs; got .*nowhere\.jpg \(there is nothing of that name",
        ),
        ("*.gif", r"images: expected a glob that matches something; got .*\*\.gif"),
        ("**.jpg", r"images: expected a glob; got .*\*\*\.jpg"),
        ("in/*.json", r"images: expected at least one image \(\.bmp.*; found none and 1 other files in"),
    ],
)
def test_what_gives_no_image_is_named(folder, source, message):
    with pytest.raises(InputError, match=message):
        pick_images([folder / source])
