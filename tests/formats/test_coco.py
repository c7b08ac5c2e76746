"""COCO files: every annotation decodes as pycocotools decodes it, and every mistake is named."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tis_ray.errors import DataError
from tis_ray.formats import coco

HEIGHT, WIDTH = 12, 16
RUNS = [50, 3, 9, 3, HEIGHT * WIDTH - 65]

GOOD = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "sub/a.jpg", "height": 20, "width": 30},
    ],
    "categories": [{"id": 9, "name": "truck"}, {"id": 4, "name": "car"}, {"id": 5, "name": "never seen"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 9,
            "bbox": [2, 3, 6, 5],
            "segmentation": [[2, 3, 8, 3, 8, 8, 2, 8]],
            "iscrowd": 0,
            "area": 30.0,
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 4,
            "bbox": [4, 2, 2, 3],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": RUNS},
            "iscrowd": 1,
        },
        {"id": 3, "image_id": 7, "category_id": 4, "bbox": [1, 1, 4, 2]},
    ],
}


def _write(folder: Path, content) -> Path:
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _full_masks(annotations, height: int, width: int) -> np.ndarray:
    full = np.zeros((len(annotations), height, width), dtype=np.uint8)
    for i, (crop, (x, y)) in enumerate(zip(annotations.masks.crops, annotations.masks.offsets, strict=True)):
        full[i, y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return full


def test_reads_images_by_id_and_classes_in_the_order_of_their_ids(tmp_path):
    dataset = coco.read(_write(tmp_path, GOOD))
    assert [record.id for record in dataset.images] == [2, 7]
    assert len(dataset) == 2
    assert dataset.images[0] == coco.ImageRecord(2, "sub/a.jpg", tmp_path / "sub/a.jpg", 20, 30)
    assert dataset.categories.ids == (4, 5, 9)
    assert dataset.categories.names == ("car", "never seen", "truck")
    assert dataset.path == tmp_path / "instances.json"


def test_polygons_runs_crowds_and_boxes_alone_become_crops(tmp_path):
    annotations = coco.read(_write(tmp_path, GOOD)).annotations(7)
    assert annotations.labels.tolist() == [2, 0, 0]
    assert annotations.crowd.tolist() == [False, True, False]
    assert annotations.boxes.tolist() == [[2, 3, 8, 8], [4, 2, 6, 5], [1, 1, 5, 3]]
    full = _full_masks(annotations, HEIGHT, WIDTH)
    expected = np.zeros_like(full)
    expected[0, 3:8, 2:8] = 1
    expected[1, [2, 3, 4, 2, 3, 4], [4, 4, 4, 5, 5, 5]] = 1  # pixels 50..52 and 62..64, counted down the columns
    expected[2, 1:3, 1:5] = 1
    assert np.array_equal(full, expected)


def test_an_image_without_annotations_has_none(tmp_path):
    annotations = coco.read(_write(tmp_path, GOOD)).annotations(2)
    assert len(annotations) == 0
    assert annotations.boxes.shape == (0, 4)


def test_compressed_runs_read_as_uncompressed_ones(tmp_path):
    content = copy.deepcopy(GOOD)
    packed = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": RUNS}, HEIGHT, WIDTH)
    content["annotations"][1]["segmentation"] = {**packed, "counts": packed["counts"].decode()}
    compressed = coco.read(_write(tmp_path, content)).annotations(7)
    plain = coco.read(_write(tmp_path, GOOD)).annotations(7)
    assert np.array_equal(_full_masks(compressed, HEIGHT, WIDTH), _full_masks(plain, HEIGHT, WIDTH))


@given(seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_mask_survives_writing_and_reading(tmp_path_factory, seed, height, width):
    rng = np.random.default_rng(seed)
    masks = (rng.random((3, height, width)) < [[[0.1]], [[0.5]], [[0.9]]]).astype(np.uint8)
    packed = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}],
        "categories": GOOD["categories"],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": 4,
                "bbox": [0, 0, width, height],
                "segmentation": {**rle, "counts": rle["counts"].decode()},
            }
            for i, rle in enumerate(packed)
        ],
    }
    annotations = coco.read(_write(tmp_path_factory.mktemp("coco"), content)).annotations(1)
    assert np.array_equal(_full_masks(annotations, height, width), masks)


def test_images_are_looked_for_beside_the_file_or_where_told(tmp_path):
    path = _write(tmp_path, GOOD)
    assert coco.read(path).image(7).path == tmp_path / "b.jpg"
    (tmp_path / "images").mkdir()
    assert coco.read(path).image(7).path == tmp_path / "images" / "b.jpg"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()  # the image of the lowest id is in the JSON's own folder
    assert coco.read(path).image(7).path == tmp_path / "b.jpg"
    assert coco.read(path, tmp_path / "else").image(7).path == tmp_path / "else" / "b.jpg"


def test_images_of_lvis_are_named_after_their_place_in_coco(tmp_path):
    content = copy.deepcopy(GOOD)
    for image in content["images"]:
        del image["file_name"]
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image['id']:012d}.jpg"
    dataset = coco.read(_write(tmp_path, content), tmp_path / "coco")
    assert [record.file_name for record in dataset.images] == ["val2017/000000000002.jpg", "val2017/000000000007.jpg"]
    assert dataset.images[0].path == tmp_path / "coco" / "val2017" / "000000000002.jpg"


def test_a_box_up_to_one_pixel_beyond_the_border_is_cut(tmp_path):
    content = copy.deepcopy(GOOD)
    content["annotations"][2]["bbox"] = [-0.5, -1, WIDTH + 1, 5]
    dataset = coco.read(_write(tmp_path, content))
    assert dataset.annotations(7).boxes[2].tolist() == [0, 0, WIDTH, 4]
    assert dataset.entries(7)[2]["bbox"] == [-0.5, -1, WIDTH + 1, 5]


def test_a_box_without_area_is_kept_for_scoring_and_left_out_otherwise(tmp_path):
    content = copy.deepcopy(GOOD)
    content["annotations"][2]["bbox"] = [3, 4, 5, 0]
    dataset = coco.read(_write(tmp_path, content))
    assert len(dataset.entries(7)) == 3
    assert len(dataset.annotations(7)) == 2


def test_a_list_of_images_without_annotations_is_read_on_demand(tmp_path):
    content = {key: GOOD[key] for key in ("images", "categories")}
    path = _write(tmp_path, content)
    assert len(coco.read(path, annotated=False).annotations(7)) == 0
    with pytest.raises(DataError, match=r"annotations: expected a list; got no such key"):
        coco.read(path)


def test_an_unknown_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"expected an id of its 2 images; got 5"):
        coco.read(_write(tmp_path, GOOD)).annotations(5)


def _with(section: str, position: int, **changes):
    """GOOD with some keys of one entry changed, or removed where the value is ..."""
    content = copy.deepcopy(GOOD)
    for key, value in changes.items():
        if value is ...:
            del content[section][position][key]
        else:
            content[section][position][key] = value
    return content


RLE = {"size": [HEIGHT, WIDTH], "counts": RUNS}
BAD = {
    "no images": ({"categories": [], "annotations": []}, "images: expected a list; got no such key"),
    "a list": ([], "expected an object with images, categories, annotations; got list"),
    "entry is no object": ({**GOOD, "images": [3]}, r"images\[0\]: expected an object; got int"),
    "id missing": (_with("annotations", 1, id=...), r"annotations\[1\]: id: expected a whole number; got no such key"),
    "id a string": (_with("images", 0, id="7"), r"images\[0\]: id: expected a whole number; got '7'"),
    "image id twice": (_with("images", 1, id=7), r"images\[1\]: id: expected each id once; got 7 twice"),
    "annotation id twice": (_with("annotations", 2, id=1), r"annotations\[2\]: id: .* got 1 twice"),
    "category id twice": (_with("categories", 0, id=4), r"categories\[1\]: id: .* got 4 twice"),
    "category name twice": (_with("categories", 0, name="car"), r"categories.names: .* got twice: \['car'\]"),
    "category nameless": (_with("categories", 0, name=...), "category 9: name: .* got no such key"),
    "file name missing": (_with("images", 0, file_name=...), "image 7: file_name: .* got no such key"),
    "height zero": (_with("images", 0, height=0), "image 7: height: .* got 0"),
    "width missing": (_with("images", 0, width=...), "image 7: width: .* got no such key"),
    "unknown image": (_with("annotations", 1, image_id=8), "annotation 2: image_id: .* got 8"),
    "unknown category": (_with("annotations", 1, category_id=1), "annotation 2: category_id: .* got 1"),
    "no category": (_with("annotations", 1, category_id=...), "annotation 2: category_id: .* got no such key"),
    "no box": (_with("annotations", 1, bbox=...), "annotation 2: bbox: expected 4 numbers .* got no such key"),
    "box of three": (_with("annotations", 1, bbox=[1, 2, 3]), r"annotation 2: bbox: .* got \[1, 2, 3\]"),
    "box of null": (_with("annotations", 1, bbox=[1, 2, None, 3]), "annotation 2: bbox: .* None"),
    "negative width": (_with("annotations", 1, bbox=[5, 5, -2, 3]), r"annotation 2: bbox: .* not negative"),
    "nan": (_with("annotations", 1, bbox=[5, float("nan"), 2, 3]), "annotation 2: bbox: expected finite"),
    "outside right": (
        _with("annotations", 1, bbox=[16, 2, 3, 3]),
        "annotation 2: bbox: expected a box inside its image",
    ),
    "outside above": (_with("annotations", 1, bbox=[2, -3, 3, 3]), "annotation 2: bbox: .* in image 7 of 16x12"),
    "beyond border": (_with("annotations", 1, bbox=[2, 2, 3, 11.5]), "annotation 2: bbox: .* at most 1 px beyond"),
    "crowd 2": (_with("annotations", 1, iscrowd=2), "annotation 2: iscrowd: expected 0 or 1; got 2"),
    "area negative": (_with("annotations", 0, area=-1), "annotation 1: area: expected a number >= 0; got -1"),
    "rle of another size": (
        _with("annotations", 1, segmentation={**RLE, "size": [WIDTH, HEIGHT]}),
        r"annotation 2 of image 7: segmentation: expected an RLE of size \[12, 16\], its image's; got \[16, 12\]",
    ),
    "rle without counts": (_with("annotations", 1, segmentation={"size": [12, 16]}), "segmentation: .* got keys size"),
    "rle too short": (
        _with("annotations", 1, segmentation={**RLE, "counts": RUNS[:-1]}),
        "segmentation: expected RLE counts that add up to 12 x 16 pixels; got a sum of 65",
    ),
    "rle negative": (_with("annotations", 1, segmentation={**RLE, "counts": [-3, 195]}), "segmentation: .* add up"),
    "rle text damaged": (_with("annotations", 1, segmentation={**RLE, "counts": "öh"}), "segmentation: .* string"),
    "rle text cut short": (_with("annotations", 1, segmentation={**RLE, "counts": "b1"}), "segmentation: .* add up"),
    "rle of null": (_with("annotations", 1, segmentation={**RLE, "counts": None}), "segmentation: .* something else"),
    "polygon of four": (
        _with("annotations", 0, segmentation=[[1, 2, 3, 4]]),
        "annotation 1 of image 7: segmentation: expected polygons of at least 6 numbers .* got 4 numbers",
    ),
    "polygon odd": (_with("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "segmentation: .* got 7 numbers"),
    "polygon flat": (_with("annotations", 0, segmentation=[1, 2, 3, 4, 5, 6]), "segmentation: .* got int"),
    "polygon nan": (_with("annotations", 0, segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "segmentation: .* finite"),
    "cut short": (json.dumps(GOOD)[:-40], "cut short at line 1, column"),
    "empty": ("", "cut short at line 1"),
    "not json": ("{'a': 1}", "not valid JSON at line 1, column 2"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_that_names_the_file_and_the_field(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        coco.read(_write(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path / 'instances.json'}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: cannot be read \(No such file"):
        coco.read(tmp_path / "gone.json")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "picture.json"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(DataError, match=r"picture\.json: expected a JSON file"):
        coco.read(path)


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
@pytest.mark.parametrize(
    "name", ["coco128/instances.json", "coco_tiny/instances_train.json", "coco_tiny/instances_val.json"]
)
def test_real_masks_equal_pycocotools_decoder(name):
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    path = Path(os.environ["TIS_RAY_DATA"]) / name
    reference = {}
    for entry in json.loads(path.read_text())["annotations"]:
        reference.setdefault(entry["image_id"], []).append(entry)
    dataset = coco.read(path)
    crowds = 0
    for record in dataset.images:
        annotations = dataset.annotations(record.id)
        full = _full_masks(annotations, record.height, record.width)
        entries = reference.get(record.id, [])
        assert len(annotations) == len(entries)
        for i, entry in enumerate(entries):
            packed = coco_mask.frPyObjects(entry["segmentation"], record.height, record.width)
            packed = coco_mask.merge(packed) if isinstance(packed, list) else packed
            assert np.array_equal(full[i], coco_mask.decode(packed))
            assert annotations.crowd[i] == entry["iscrowd"]
            assert dataset.categories.ids[annotations.labels[i]] == entry["category_id"]
        crowds += int(annotations.crowd.sum())
    assert crowds > 0


@pytest.mark.realdata
def test_real_image_files_are_found_and_have_the_promised_size():
    if not os.environ.get("TIS_RAY_DATA"):
        pytest.skip("TIS_RAY_DATA is not set")
    from tis_ray.formats.images import open_image

    for name in ("coco_street/instances_val.json", "wad/instances.json"):
        dataset = coco.read(Path(os.environ["TIS_RAY_DATA"]) / name)
        assert all(record.path.is_file() for record in dataset.images)
        record = dataset.images[0]
        assert open_image(record.path).shape == (record.height, record.width, 3)
