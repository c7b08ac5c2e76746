"""Folders, lists and COCO JSONs of images to look at."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tis_ray.errors import DataError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.images import open_image


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
        ("nowhere", None, r"images: expected a folder, a \.txt or \.parquet list or a COCO \.json; got .*no such file"),
        ("x.csv", "a", r"images: expected a folder.*suffix '\.csv'"),
        ("x.txt", "\n", r"x\.txt: expected at least one image"),
        ("x.txt", "a.jpg\nb.jpg\na.jpg\n", r"x\.txt: expected each image once; got .*a\.jpg more than once"),
        ("x.txt", "a.jpg\nb/../a.jpg\n", r"x\.txt: expected each image once; got .*b/\.\./a\.jpg more than once"),
        ("x.json", "{", r"x\.json"),
        ("x.parquet", "a", r"x\.parquet: expected a Parquet file; got"),
        ("x.json", '{"images": [], "categories": []}', r"x\.json: expected at least one image"),
    ],
    ids=[
        "missing",
        "other suffix",
        "empty list",
        "twice",
        "twice by another way",
        "broken json",
        "broken table",
        "empty json",
    ],
)
def test_unusable_sources_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_image_list(tmp_path / name)


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one image"):
        read_image_list(tmp_path)


def table(where: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), where)
    return where


def test_a_table_names_files_by_either_column_and_numbers_them_unless_it_has_ids(folder: Path) -> None:
    both = table(folder / "a.parquet", id=[9, 4], path=["b.jpg", "deep/c.webp"], file_name=["x/b.jpg", "c"])
    assert [(one.id, one.file_name, one.path) for one in read_image_list(both)] == [
        (4, "c", folder / "deep/c.webp"),
        (9, "x/b.jpg", folder / "b.jpg"),
    ]
    names = table(folder / "b.parquet", file_name=["b.jpg", "a.PNG"], height=[4, None], width=[6, 6], note=["", ""])
    elsewhere = read_image_list(names, folder / "deep")
    assert [(one.id, one.file_name, one.path, one.size_hw) for one in elsewhere] == [
        (1, "b.jpg", folder / "deep/b.jpg", (4, 6)),
        (2, "a.PNG", folder / "deep/a.PNG", None),
    ]


WRONG_TABLES = {
    "no name": ({"file": ["a.jpg"]}, "expected a column path or file_name; got neither"),
    "ids as texts": ({"path": ["a.jpg"], "id": ["1"]}, "id: expected a column of whole numbers; got string"),
    "names as numbers": ({"path": [3]}, "path: expected a column of texts; got int64"),
    "no id": ({"path": ["a.jpg", "b.jpg"], "id": [1, None]}, "row 1: id: expected one; got None"),
    "no path": ({"path": ["a.jpg", None]}, "row 1: path: expected one; got None"),
    "one id twice": ({"path": ["a.jpg", "b.jpg"], "id": [7, 7]}, "id: expected each id once; got 7 more than once"),
    "no row": ({"path": pa.array([], pa.string())}, "expected at least one image"),
}


@pytest.mark.parametrize(("columns", "message"), WRONG_TABLES.values(), ids=WRONG_TABLES.keys())
def test_wrong_tables_are_refused(tmp_path: Path, columns: dict, message: str) -> None:
    source = table(tmp_path / "x.parquet", **columns)
    with pytest.raises(DataError, match=message) as caught:
        read_image_list(source)
    assert str(caught.value).startswith(f"{source}: ")


def test_doubles_and_missing_files_are_all_counted_and_refused_or_left_out(folder: Path) -> None:
    source = folder / "list.txt"
    source.write_text("b.jpg\ngone.jpg\na.PNG\nb.jpg\nlost.jpg\nb.jpg\ndeep/c.webp\n")
    with pytest.raises(DataError) as caught:
        read_image_list(source, present=True)
    assert str(caught.value) == (
        f"{source}: 4 images are wrong (2 by doubles, 2 by missing): "
        f"expected each image once; got {folder}/b.jpg more than once; "
        f"expected each image once; got {folder}/b.jpg more than once; "
        f"expected a file; there is no {folder}/gone.jpg; ..."
    )
    bad = BadEntries(skip=True)
    left = read_image_list(source, bad=bad, present=True)
    assert [(one.id, one.file_name) for one in left] == [(1, "b.jpg"), (3, "a.PNG"), (7, "deep/c.webp")]
    assert dict(bad.counts) == {"doubles": 2, "missing": 2}
    source.write_text("gone.jpg\n")
    with pytest.raises(DataError, match=r"at least one image that is there; .*list\.txt: .* there is no .*gone\.jpg"):
        read_image_list(source, bad=BadEntries(skip=True), present=True)


def test_a_folder_takes_no_second_one_beside_it(folder: Path) -> None:
    with pytest.raises(DataError, match="expected no folder of images beside the folder"):
        read_image_list(folder, folder)


def test_files_that_are_excused_may_be_missing(folder: Path) -> None:
    source = folder / "list.txt"
    source.write_text("b.jpg\ngone.jpg\nlost.jpg\n")
    bad = BadEntries(skip=True)
    left = read_image_list(source, bad=bad, present=True, excused={"gone.jpg"})
    assert [one.file_name for one in left] == ["b.jpg", "gone.jpg"]
    assert dict(bad.counts) == {"missing": 1}


def test_folders_and_lists_behind_urls(folder: Path) -> None:
    files = fsspec.filesystem("memory")
    try:
        for name in ("b.jpg", "deep/c.webp"):
            files.pipe(f"/pictures/{name}", (folder / name).read_bytes())
        files.pipe("/pictures/notes.txt", b"deep/c.webp\nmemory://pictures/b.jpg\nnone.jpg\n")
        listed = read_image_list("memory://pictures")
        assert [(one.id, one.file_name) for one in listed] == [(1, "b.jpg"), (2, "deep/c.webp")]
        assert [open_image(one.path).shape for one in listed] == [(4, 6, 3)] * 2
        bad = BadEntries(skip=True)
        in_list = read_image_list("memory://pictures/notes.txt", bad=bad, present=True)
        assert [(one.id, one.file_name) for one in in_list] == [(1, "deep/c.webp"), (2, "b.jpg")]
        assert (in_list[0].path, bad.total) == (listed[1].path, 1)
        here = table(folder / "far.parquet", path=["memory://pictures/b.jpg", "a.PNG"])
        assert [open_image(one.path).shape for one in read_image_list(here, present=True)] == [(4, 6, 3)] * 2
    finally:
        files.rm("/pictures", recursive=True)
