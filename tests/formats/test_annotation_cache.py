"""What the cache answers is what the JSON says, and whatever happens to the cache, the JSON is read."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from tis_ray.errors import DataError
from tis_ray.formats import annotation_cache, coco, coco_parquet, segmentation
from tis_ray.formats.dataset import Federated
from tis_ray.whole_files import partial_of

KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
HEIGHT, WIDTH = 12, 16
RUNS = [50, 3, 9, 3, HEIGHT * WIDTH - 65]
SQUARE = [2, 3, 8, 3, 8, 8, 2, 8]
ODD = {  # what stands in an annotation beside its ids and its box
    "nothing more": {},
    "no mask, in so many words": {"segmentation": None, "iscrowd": 0, "area": 3},
    "an empty list": {"segmentation": [], "area": 0},
    "a polygon": {"segmentation": [SQUARE], "area": 30.0, "iscrowd": 0},
    "two polygons": {"segmentation": [SQUARE, [1.5, 1, 4.25, 1, 4, 6.125]], "area": 31.7},
    "runs as numbers": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": RUNS}, "iscrowd": 1},
    "runs as text": {"segmentation": segmentation.to_rle([SQUARE], (), HEIGHT, WIDTH), "iscrowd": 1, "area": 36},
    "keys of no use": {"segmentation": [SQUARE], "attributes": {"a": 1}, "score": 0.5},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _content() -> dict:
    boxes = [[2, 3, 6, 5], [0, 0, 16, 12], [1.25, 2.5, 3.75, 4.125], [3, 4, 5, 0]]
    annotations = [
        {"id": 50 - i, "image_id": (7, 2, 11)[i % 3], "category_id": (9, 4)[i % 2], "bbox": boxes[i % 4], **more}
        for i, more in enumerate(ODD.values())
    ]
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH, "neg_category_ids": [5]},
            {"id": 2, "file_name": "sub/ä.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 11, "file_name": "c.jpg", "height": HEIGHT, "width": WIDTH, "not_exhaustive_category_ids": [4, 9]},
            {"id": 1, "file_name": "none.jpg", "height": 3000, "width": 7},
        ],
        "categories": [
            {"id": 9, "name": "truck", "supercategory": "vehicle", "frequency": "r"},
            {"id": 4, "name": "car", "supercategory": "vehicle", "frequency": "f"},
            {"id": 5, "name": "never seen", "supercategory": "", "frequency": "c"},
        ],
        "annotations": annotations,
    }


def _write(folder: Path, content=None) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(_content() if content is None else content))
    return path


def _read(path: Path, **more):
    return annotation_cache.read(path, least_bytes=0, **more)


def _assert_same(found, expected):
    assert found.path == expected.path
    assert found.images == expected.images
    assert found.categories == expected.categories
    for record in expected.images:
        listed, told = found.entries(record.id), expected.entries(record.id)
        wanted = [{key: entry[key] for key in KEYS if key in entry} for entry in told]
        assert [{key: entry[key] for key in entry if key in KEYS} for entry in listed] == wanted
        for one, other in zip(listed, told, strict=True):
            assert not one.keys() - {*KEYS, "segmentation"}
            assert ("segmentation" in one) == bool(other.get("segmentation"))
            if isinstance(other.get("segmentation"), list) and other["segmentation"]:
                assert one["segmentation"] == other["segmentation"]
            size = record.height, record.width
            masks = [segmentation.to_rle(entry.get("segmentation"), entry["bbox"], *size) for entry in (one, other)]
            assert masks[0] == masks[1]
        _assert_same_annotations(found.annotations(record.id), expected.annotations(record.id))


def _assert_same_annotations(found, expected):
    for field in ("boxes", "labels", "crowd", "unverified"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    np.testing.assert_array_equal(found.masks.offsets, expected.masks.offsets)
    for one, other in zip(found.masks.crops, expected.masks.crops, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("start", ["first", "second"])
def test_odd_annotations_are_those_of_the_json(tmp_path, cache, start):
    path = _write(tmp_path)
    found = _read(path)
    if start == "second":
        (file,) = cache.glob("*.parquet")
        found = _read(path)
        assert file.stat().st_size > 0
    assert found.columns is not None
    _assert_same(found, coco.read(path))
    assert found.image(7).federated == Federated((5,), ())
    assert found.image(11).federated == Federated((), (4, 9))
    assert found.image(2).federated is None


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["coco128/instances.json", "coco_street/instances_train.json", "lvis_val100/lvis_val_100.json"]
)
def test_real_files_are_those_of_the_json(name):
    if "TIS_RAY_DATA" not in os.environ:
        pytest.skip("TIS_RAY_DATA is not set")
    path = Path(os.environ["TIS_RAY_DATA"]) / name
    _read(path)
    _assert_same(_read(path), coco.read(path))


def test_a_data_set_without_annotations_or_without_images_is_kept_too(tmp_path):
    for content in (_content() | {"annotations": []}, _content() | {"annotations": [], "images": []}):
        path = _write(tmp_path, content)
        _read(path)
        _assert_same(_read(path), coco.read(path))


def test_more_images_than_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_parquet, "_IMAGES_AT_ONCE", 3)
    content = _content()
    content["images"] += [{"id": 100 + i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(8)]
    content["annotations"] += [
        {"id": 1000 + i, "image_id": 100 + i % 7, "category_id": 4, "bbox": [i % 9, 1, 2, 3], **more}
        for i, more in enumerate(list(ODD.values()) * 3)
    ]
    path = _write(tmp_path, content)
    _read(path)
    _assert_same(_read(path), coco.read(path))


def test_the_json_is_parsed_once(tmp_path, monkeypatch):
    path = _write(tmp_path)
    first = _read(path)
    monkeypatch.setattr(coco, "load_json", None)  # whoever parses now fails
    _assert_same(_read(path), first)


def test_a_changed_json_is_parsed_again_and_replaces_its_cache(tmp_path, cache):
    path = _write(tmp_path)
    _read(path)
    content = _content()
    content["annotations"] = content["annotations"][:2]
    _write(tmp_path, content)
    assert sum(len(_read(path).entries(record.id)) for record in coco.read(path).images) == 2
    assert len(list(cache.glob("*.parquet"))) == 1


def test_a_json_of_the_same_size_that_is_newer_is_parsed_again(tmp_path):
    path = _write(tmp_path)
    _read(path)
    text = path.read_text().replace('"truck"', '"lorry"')
    path.write_text(text)
    os.utime(path, ns=(0, 10**18))
    assert "lorry" in _read(path).categories.names


def test_equal_names_in_two_folders_have_two_caches(tmp_path, cache):
    for name in "ab":
        (tmp_path / name).mkdir()
        _read(_write(tmp_path / name))
    assert len(list(cache.glob("instances-*.parquet"))) == 2


def test_images_are_looked_for_anew_each_time(tmp_path):
    path = _write(tmp_path)
    assert _read(path).image(7).path == tmp_path / "b.jpg"
    (tmp_path / "images").mkdir()
    assert _read(path).image(7).path == tmp_path / "images" / "b.jpg"
    assert _read(path, images=tmp_path / "else").image(7).path == tmp_path / "else" / "b.jpg"


def test_off_and_small_files_write_nothing(tmp_path, cache, monkeypatch):
    path = _write(tmp_path)
    annotation_cache.read(path)
    assert not cache.exists()
    monkeypatch.setenv("TIS_RAY_CACHE", "off")
    assert _read(path).columns is None
    assert not Path("off").exists()


def test_without_the_variable_caches_go_to_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TIS_RAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert annotation_cache.cache_folder() == tmp_path / "xdg" / "tis-ray" / "annotations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert annotation_cache.cache_folder() == tmp_path / ".cache" / "tis-ray" / "annotations"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_broken_cache_is_written_anew(tmp_path, cache, content):
    path = _write(tmp_path)
    _read(path)
    (file,) = cache.glob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(content)
    _assert_same(_read(path), coco.read(path))
    assert file.read_bytes() == whole


def test_a_cache_cut_short_or_of_other_lengths_is_written_anew(tmp_path, cache):
    path = _write(tmp_path)
    _read(path)
    (file,) = cache.glob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"ids": 8', b'"ids": 9'))
    assert file.read_bytes() != whole
    _assert_same(_read(path), coco.read(path))


@pytest.mark.parametrize("blocked", ["parent", "itself"])
def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path, cache, monkeypatch, caplog, blocked):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIS_RAY_CACHE", str(tmp_path / "file" if blocked == "itself" else tmp_path / "file" / "cache"))
    path = _write(tmp_path)
    _assert_same(_read(path), coco.read(path))
    assert "cannot be written" in caplog.text


def test_numbers_beyond_64_bits_cost_the_cache_alone(tmp_path, cache):
    content = _content()
    content["annotations"][0]["id"] = 2**63
    path = _write(tmp_path, content)
    assert _read(path).columns is None
    assert not list(cache.glob("*.parquet"))
    assert not list(cache.glob(".*"))


def test_mistakes_in_the_json_are_told_and_kept_nowhere(tmp_path, cache):
    content = _content()
    content["annotations"][0]["category_id"] = 77
    path = _write(tmp_path, content)
    for _ in range(2):
        with pytest.raises(DataError, match="category_id: expected an id among categories; got 77"):
            _read(path)
    assert not list(cache.glob("*.parquet"))
    with pytest.raises(DataError, match=r"gone.json: cannot be read \(No such file"):
        _read(tmp_path / "gone.json")


def _parse_slowly(path, parsed, answers):
    parse = coco.load_json

    def counted(path):
        with parsed.get_lock():
            parsed.value += 1
        return parse(path)

    coco.load_json = counted
    answers.put(len(_read(path)))


def test_of_processes_that_start_together_one_parses(tmp_path):
    path = _write(tmp_path)
    context = multiprocessing.get_context("fork")
    parsed, answers = context.Value("i", 0), context.Queue()
    workers = [context.Process(target=_parse_slowly, args=(path, parsed, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=60) for _ in workers] == [4] * 4
    for worker in workers:
        worker.join()
    assert parsed.value == 1


def test_caches_of_files_of_that_name_that_are_gone_are_removed(tmp_path, cache):
    for name in ("kept", "gone", "new"):
        (tmp_path / name).mkdir()
    _read(_write(tmp_path / "kept"))
    gone = _write(tmp_path / "gone")
    _read(gone)
    (tmp_path / "other.json").write_text(gone.read_text())
    annotation_cache.read(tmp_path / "other.json", least_bytes=0)
    (tmp_path / "other.json").unlink()  # of another name: left alone
    gone.unlink()
    _read(_write(tmp_path / "new"))
    kept = {coco_parquet.read_notes(file)[0] for file in cache.glob("*.parquet")}
    assert kept == {str(tmp_path / name) for name in ("kept/instances.json", "new/instances.json", "other.json")}
    assert sorted(file.stem for file in cache.glob("*.lock")) == sorted(file.stem for file in cache.glob("*.parquet"))


def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path, cache):
    path = _write(tmp_path)
    _read(path)
    (file,) = cache.glob("*.parquet")
    left = partial_of(file)
    left.write_bytes(b"half of it")
    foreign = partial_of(cache / "another-0123456789abcdef.parquet")
    foreign.write_bytes(b"somebody writes it")
    file.unlink()
    _read(path)
    assert sorted(cache.iterdir()) == sorted([file, file.with_suffix(".lock"), foreign])


def test_a_broken_cache_of_that_name_does_no_harm(tmp_path, cache, caplog):
    cache.mkdir()
    (cache / "instances-0123456789abcdef.parquet").write_bytes(b"no Parquet")
    path = _write(tmp_path)
    assert len(_read(path)) == 4
    assert len(list(cache.glob("*.parquet"))) == 2
    assert "cannot be written" not in caplog.text
