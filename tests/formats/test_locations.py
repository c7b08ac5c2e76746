"""Data behind URLs is read as files are: from memory, and from a web server."""

import functools
import http.server
import io
import json
import multiprocessing
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from tis_ray.config import CocoFolder, WadFolder
from tis_ray.data.dataset import check_files
from tis_ray.errors import DataError
from tis_ray.formats import annotation_cache, coco, locations
from tis_ray.formats.images import open_image
from tis_ray.formats.locations import is_dir, is_file, missing_files, place, read_bytes, version
from tis_ray.formats.opening import open_dataset
from tis_ray.formats.stuff_maps import StuffMaps

HEIGHT, WIDTH = 6, 8
CONTENT = {
    "images": [
        {"id": 4, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "sub/a.png", "height": HEIGHT, "width": WIDTH},
    ],
    "categories": [{"id": 1, "name": "car"}],
    "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 3, 2]}],
}


def _png(value: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (WIDTH, HEIGHT), (value,) * len(mode) if len(mode) > 1 else value).save(file, "PNG")
    return file.getvalue()


FILES = {
    "instances.json": json.dumps(CONTENT).encode(),
    "images/b.png": _png(7),
    "images/sub/a.png": _png(9),
    "maps/b.png": _png(3, "L"),
    "maps/sub/a.png": _png(5, "L"),
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def folder(tmp_path):
    """A folder of the files."""
    folder = tmp_path / "www"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def served(folder):
    """A folder and the address of a web server that shows it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def in_memory(tmp_path):
    """The address of a folder in memory."""
    memory = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}"
    memory.pipe({f"{root}/{name}": content for name, content in FILES.items()})
    yield f"memory:/{root}"
    memory.rm(root, recursive=True)


@pytest.fixture(params=["memory", "http", "file", "path"])
def root(request):
    """A folder of the files, as a recipe may name it."""
    if request.param == "memory":
        return request.getfixturevalue("in_memory")
    if request.param == "http":
        return request.getfixturevalue("served")[1]
    folder = request.getfixturevalue("folder")
    return folder.as_uri() if request.param == "file" else str(folder)


def test_a_coco_set_is_read_wherever_it_lies(root):
    truth = open_dataset(CocoFolder(annotations=f"{root}/instances.json"))
    assert str(truth.images[1].path) == str(place(f"{root}/images/b.png"))
    check_files(truth)
    assert [open_image(record.path)[0, 0].tolist() for record in truth.images] == [[9] * 3, [7] * 3]
    assert truth.annotations(2).boxes.tolist() == [[1, 1, 4, 3]]
    elsewhere = open_dataset(CocoFolder(annotations=f"{root}/instances.json", images=f"{root}/else"))
    with pytest.raises(DataError, match=r"2 of its 2 image files are missing, the first is .*else/sub/a\.png"):
        check_files(elsewhere)


def test_maps_of_stuff_are_read_wherever_they_lie(root):
    truth = coco.read(f"{root}/instances.json")
    maps = StuffMaps(place(f"{root}/maps"), 10)
    maps.check(truth.images)
    found = [maps.read(record) for record in truth.images]
    assert [int(one.max()) for one in found if one is not None] == [5, 3]
    with pytest.raises(DataError, match="expected maps of stuff"):
        StuffMaps(place(f"{root}/images/sub/none"), 10).check(truth.images)


def test_questions_about_files_and_folders(root):
    assert is_file(place(f"{root}/instances.json"))
    assert not is_file(place(f"{root}/other.json"))
    assert is_dir(place(f"{root}/images"))
    assert not is_dir(place(f"{root}/other"))


def test_pictures_of_wad_may_lie_behind_a_url(in_memory, tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 33000, np.uint16)).save(tmp_path / "b_instanceIds.png")
    truth = open_dataset(WadFolder(labels=tmp_path, images=f"{in_memory}/images"))
    assert str(truth.images[0].path) == f"{in_memory}/images/b.jpg"


def test_what_cannot_be_read_is_named_by_its_url(in_memory, served, monkeypatch):
    with pytest.raises(DataError, match=rf"{in_memory}/gone.json: cannot be read \(No such file"):
        coco.read(f"{in_memory}/gone.json")
    _, address = served
    with pytest.raises(DataError, match=rf"{address}/gone.png: image cannot be read \(No such file\)"):
        open_image(place(f"{address}/gone.png"))
    monkeypatch.setattr(locations, "_WAITS_S", (0.0,))
    with pytest.raises(
        DataError, match=r"http://127.0.0.1:1/x.png: image cannot be read \(Client\w*Error: Cannot conn"
    ):
        open_image(place("http://127.0.0.1:1/x.png"))
    assert not is_file(place("http://127.0.0.1:1/x.png"))
    assert version(place("http://127.0.0.1:1/x.png")) is None


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failure_that_passes_costs_a_moment(in_memory, monkeypatch, failures):
    left = [failures]

    def unsure(self, *args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise TimeoutError("took too long")
        return whole(self, *args, **kwargs)

    memory = type(fsspec.filesystem("memory"))
    whole = memory.cat_file
    monkeypatch.setattr(memory, "cat_file", unsure)
    monkeypatch.setattr(locations, "_WAITS_S", (0.0, 0.0))
    assert read_bytes(place(f"{in_memory}/images/b.png")) == FILES["images/b.png"]
    left[0] = 3
    with pytest.raises(DataError, match=r"b.png: cannot be read \(TimeoutError: took too long\)"):
        read_bytes(place(f"{in_memory}/images/b.png"))


def _read_in_child(path, answers):
    answers.put(open_image(path)[0, 0].tolist())


def test_loader_processes_read_what_their_parent_has_read(served):
    """The connections of a process do not survive a fork."""
    path = place(f"{served[1]}/images/b.png")
    assert is_file(path)
    assert path.is_file()
    open_image(path)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_read_in_child, args=(path, answers))
    child.start()
    assert answers.get(timeout=60) == [7] * 3
    child.join()


def _many(folder: Path, count: int) -> list[Path]:
    (folder / "many").mkdir(exist_ok=True)
    for i in range(count):
        (folder / "many" / f"{i}.jpg").touch()
    return [folder / "many" / f"{i}.jpg" for i in range(count)]


@pytest.mark.parametrize("count", [3, 500])
def test_missing_files_of_small_and_of_listed_folders(tmp_path, count):
    paths = _many(tmp_path, count)
    assert missing_files(paths) == []
    assert missing_files([]) == []
    paths[1].unlink()
    paths[2].unlink()
    paths[2].mkdir()
    lost = tmp_path / "lost" / "x.jpg"
    assert missing_files([lost, *paths]) == [lost, paths[1], paths[2]]
    assert missing_files([tmp_path / "lost" / f"{i}" for i in range(count)]) == [
        tmp_path / "lost" / f"{i}" for i in range(count)
    ]


def test_a_linked_picture_is_there_and_a_dangling_link_is_not(tmp_path):
    paths = _many(tmp_path, 300)
    (tmp_path / "true.jpg").touch()
    for path, target in ((paths[0], tmp_path / "true.jpg"), (paths[1], tmp_path / "false.jpg")):
        path.unlink()
        path.symlink_to(target)
    assert missing_files(paths) == [paths[1]]


def test_a_remote_folder_is_listed_once(in_memory, monkeypatch):
    memory = fsspec.filesystem("memory")
    root = in_memory.removeprefix("memory:/")
    memory.pipe({f"{root}/many/{i}.jpg": b"x" for i in range(100)})
    asked = []
    kind = type(memory)
    real = kind.info
    monkeypatch.setattr(kind, "info", lambda self, path, **more: asked.append(path) or real(self, path, **more))
    paths = [place(f"{in_memory}/many/{i}.jpg") for i in range(102)]
    assert missing_files(paths) == paths[100:]
    assert len(asked) < 5
    assert missing_files([place(f"{in_memory}/none/{i}.jpg") for i in range(100)]) != []


def test_of_a_web_folder_that_lists_nothing_some_files_stand_for_all(served):
    folder, address = served
    _many(folder, 40)
    paths = [place(f"{address}/many/{i}.jpg") for i in range(40)]
    assert missing_files(paths) == []
    (folder / "many" / "39.jpg").unlink()
    assert missing_files(paths) == paths[39:]
    (folder / "many" / "index.html").write_text("no list")
    assert missing_files(paths) == []
    (folder / "many" / "3.jpg").unlink()
    assert missing_files(paths) == paths[3:4]


def test_a_remote_file_has_a_cache_until_it_changes(in_memory, served, tmp_path, monkeypatch):
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "cache"))
    for root in (in_memory, served[1]):
        path = place(f"{root}/instances.json")
        first = annotation_cache.read(path, least_bytes=0)
        with monkeypatch.context() as patched:
            patched.setattr(coco, "load_json", None)
            again = annotation_cache.read(path, least_bytes=0)
        assert again.images == first.images
        assert len(again.annotations(2)) == 1
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == 2
    changed = CONTENT | {"annotations": []}
    fsspec.filesystem("memory").pipe(
        f"{in_memory.removeprefix('memory:/')}/instances.json", json.dumps(changed).encode()
    )
    assert len(annotation_cache.read(f"{in_memory}/instances.json", least_bytes=0).annotations(2)) == 0


def test_a_version_is_the_files_and_not_the_moments(root):
    path = place(f"{root}/instances.json")
    assert version(path) == version(path)
    assert version(place(f"{root}/other.json")) is None
