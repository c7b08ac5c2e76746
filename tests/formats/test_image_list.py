"""Folders, lists and COCO JSONs of images to look at."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import DataError
from tis_ray.formats.image_list import read_image_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/c.webp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "._a.jpg").write_text("a file system's note")
    (tmp_path / "images" / "folder.png").mkdir()
    return tmp_path / "images"


def test_folder_is_sorted_and_numbered_from_1(folder: Path) -> None:
    listed = read_image_list(folder)
    assert [(one.id, one.file_name) for one in listed] == [(1, "a.PNG"), (2, "b.jpg"), (3, "deep/c.webp")]
    assert all(one.path.is_file() for one in listed)


def test_list_keeps_its_order_and_missing_files(folder: Path) -> None:
    source = folder.parent / "list.txt"
    source.write_text("# two of them\nimages/b.jpg\n\nimages/gone.jpg\n")
    listed = read_image_list(source)
    assert [(one.id, one.path) for one in listed] == [(1, folder / "b.jpg"), (2, folder / "gone.jpg")]


def test_coco_json_keeps_its_ids_and_needs_no_annotations(folder: Path) -> None:
    source = folder.parent / "test.json"
    images = [{"id": 42, "file_name": "b.jpg", "height": 4, "width": 6}]
    source.write_text(json.dumps({"images": images, "categories": []}))
    (one,) = read_image_list(source)
    assert (one.id, one.path, one.size_hw) == (42, folder / "b.jpg", (4, 6))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, r"images: expected a folder, a \.txt list or a COCO \.json; got .*no such file"),
        ("x.csv", "a", r"images: expected a folder.*suffix '\.csv'"),
        ("x.txt", "\n", r"x\.txt: expected at least one image"),
        ("x.txt", "a.jpg\nb.jpg\na.jpg\n", r"x\.txt: expected each image once; got .*a\.jpg more than once"),
        ("x.json", "{", r"x\.json"),
        ("x.json", '{"images": [], "categories": []}', r"x\.json: expected at least one image"),
    ],
    ids=["missing", "other suffix", "empty list", "twice", "broken json", "empty json"],
)
def test_unusable_sources_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_image_list(tmp_path / name)


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one image"):
        read_image_list(tmp_path)
