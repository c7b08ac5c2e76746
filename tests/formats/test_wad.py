"""WAD label images: exact objects, regions to ignore, frames by video list, and clear refusals."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tis_ray.errors import DataError
from tis_ray.formats import wad
from tis_ray.formats.label_images import open_label_image
from tis_ray.formats.wad_classes import EVALUATED, WITH_RIDER

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


def save(path: Path, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(path)


def background(height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width), 255, dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`labels/` and `images/` of the frames a, b and c; frame b holds two cars, a rider and a region to ignore."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    for name in "cab":
        labels = background()
        if name == "b":
            labels[0:4, 0:6] = 33000
            labels[15:20, 25:30] = 33001
            labels[8:12, 10:14] = 37000
            labels[16:18, 0:9] = 65535
        save(tmp_path / "labels" / f"{name}_instanceIds.png", labels)
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def read(folder: Path, **options) -> wad.WadDataset:
    return wad.read(folder / "labels", folder / "images", **options)


# ------------------------------------------------------------------------------------------- Label values


def test_pixels_of_a_value_are_one_object_with_a_tight_box():
    labels = background()
    labels[0, 0] = labels[19, 29] = 36007  # the same person behind a pole
    labels[5:7, 3:9] = 40000
    truth = wad.to_annotations(labels)
    assert truth.labels.tolist() == [EVALUATED.names.index("person"), EVALUATED.names.index("tricycle")]
    np.testing.assert_array_equal(truth.boxes, [[0, 0, 30, 20], [3, 5, 9, 7]])
    assert truth.masks.areas().tolist() == [2, 12]
    assert not truth.crowd.any()


@pytest.mark.parametrize(
    "value",
    [0, 7, 17, 33, 49, 255, 169, 160, 1000, 1001, 17000, 32999, 41000, 49000, 50123, 65000, 65534, 37000],
)
def test_every_other_value_is_background(value):
    labels = background()
    labels[3:5, 3:5] = value
    assert len(wad.to_annotations(labels)) == 0


@pytest.mark.parametrize("value", [65535, *range(161, 169)])
def test_group_values_are_regions_of_any_class(value):
    labels = background()
    labels[3:5, 3:7] = value
    truth = wad.to_annotations(labels)
    assert truth.crowd.tolist() == [True]
    assert truth.labels.tolist() == [-1]
    np.testing.assert_array_equal(truth.boxes, [[3, 3, 7, 5]])


def test_regions_to_ignore_are_split_where_they_are_not_connected():
    labels = background()
    labels[0:2, 0:2] = 65535
    labels[2, 2] = 161  # touches by a corner
    labels[10, 20:30] = 65535
    truth = wad.to_annotations(labels)
    np.testing.assert_array_equal(truth.boxes, [[0, 0, 3, 3], [20, 10, 30, 11]])
    assert truth.masks.areas().tolist() == [5, 10]


def test_riders_are_a_class_when_asked_for():
    labels = background()
    labels[3:5, 3:7] = 37002
    labels[8:9, 3:7] = 38000
    truth = wad.to_annotations(labels, WITH_RIDER)
    assert [WITH_RIDER.names[label] for label in truth.labels] == ["rider", "truck"]
    assert [EVALUATED.names[label] for label in wad.to_annotations(labels).labels] == ["truck"]


def test_random_maps_equal_a_comparison_value_by_value():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 40), (40, 1), (23, 37)):
        labels = rng.choice([255, 33000, 33001, 34005, 39999, 65535, 168, 49000], (height, width)).astype(np.uint16)
        truth = wad.to_annotations(labels)
        values = [value for value in (33000, 33001, 34005, 39999) if (labels == value).any()]
        assert [EVALUATED.ids[label] for label in truth.labels[~truth.crowd]] == [value // 1000 for value in values]
        masks = coco_mask.decode(truth.masks.to_rle(height, width)) if len(truth) else np.zeros((height, width, 0))
        for value, mask in zip(values, np.moveaxis(masks, -1, 0), strict=False):
            np.testing.assert_array_equal(mask, labels == value)
        np.testing.assert_array_equal(masks[..., truth.crowd].sum(axis=-1), np.isin(labels, [65535, 168]))
        if len(truth):
            np.testing.assert_array_equal(
                truth.boxes[:, 2:] - truth.boxes[:, :2], coco_mask.toBbox(truth.masks.to_rle(height, width))[:, 2:]
            )


# ---------------------------------------------------------------------------------------------- Data sets


def test_frames_come_in_the_order_of_their_names(folder):
    dataset = read(folder)
    assert [(one.id, one.file_name) for one in dataset.images] == [(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")]
    assert all(one.path.is_file() and (one.height, one.width) == (20, 30) for one in dataset.images)
    assert [len(dataset.annotations(one.id)) for one in dataset.images] == [0, 3, 0]
    assert dataset.image(3) is dataset.images[2]
    assert len(dataset) == 3
    assert len(read(folder, rider=True).annotations(2)) == 4


def test_lists_of_videos_choose_the_frames(folder):
    first = "road01_ins\\ColorImage\\Record011\\Camera 5\\c.jpg\troad01_ins\\Label\\Record011\\Camera 5\\c.png\n\n"
    (folder / "one.txt").write_text(first)
    (folder / "two.txt").write_text("some/where/b.jpg\nb.jpg\n")
    assert [one.file_name for one in read(folder, frames=[folder / "one.txt"]).images] == ["c.jpg"]
    both = read(folder, frames=[folder / "one.txt", folder / "two.txt"])
    assert [one.file_name for one in both.images] == ["b.jpg", "c.jpg"]
    assert len(both.annotations(1)) == 3


def test_entries_repeat_a_region_for_each_class(folder):
    entries = read(folder).entries(2)
    assert [entry["category_id"] for entry in entries] == [33, 33, *EVALUATED.ids]
    assert [entry["iscrowd"] for entry in entries] == [0, 0, *[1] * 7]
    assert len({entry["id"] for entry in entries}) == 3
    assert entries[1]["bbox"] == [25, 15, 5, 5]
    assert entries[1]["area"] == 25
    assert coco_mask.decode(entries[2]["segmentation"]).sum() == 18


def test_labels_of_one_channel_of_16_bits_are_expected(folder):
    target = folder / "labels" / "a_instanceIds.png"
    for mode in ("L", "RGB", "P", "LA"):
        Image.new(mode, (30, 20)).save(target)
        with pytest.raises(DataError, match=r"a_instanceIds\.png: expected a label image, .* 16-bit .*; got "):
            read(folder)
    target.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a_instanceIds\.png: expected a label image"):
        read(folder)


def test_a_label_image_that_is_cut_short_is_named(folder):
    target = folder / "labels" / "b_instanceIds.png"
    noise = np.random.default_rng(0).integers(0, 65536, (200, 300)).astype(np.uint16)
    save(target, noise)
    target.write_bytes(target.read_bytes()[:5000])
    dataset = read(folder)
    with pytest.raises(DataError, match=r"b_instanceIds\.png: label image is cut short or damaged"):
        dataset.annotations(2)
    target.unlink()
    with pytest.raises(DataError, match=r"b_instanceIds\.png: there is no such label image"):
        dataset.annotations(2)


@pytest.mark.parametrize("image_id", [0, 4, -1])
def test_an_unknown_id_is_an_error(folder, image_id):
    with pytest.raises(DataError, match=f"expected an id of its 3 images; got {image_id}"):
        read(folder).annotations(image_id)


def test_folders_and_lists_that_give_nothing_are_errors(folder):
    with pytest.raises(DataError, match=r"nowhere: expected a folder of label images; there is none"):
        wad.read(folder / "nowhere", folder)
    with pytest.raises(DataError, match=r"images: expected label images \*_instanceIds\.png; found none"):
        wad.read(folder / "images", folder)
    with pytest.raises(DataError, match=r"none\.txt: expected a list of frames, one a line"):
        read(folder, frames=[folder / "none.txt"])
    (folder / "list.txt").write_text("a.jpg\nx.jpg\n")
    with pytest.raises(DataError, match=r"list\.txt: 1 of its 2 frames have no label image in .*, the first is x"):
        read(folder, frames=[folder / "list.txt"])
    (folder / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="found none"):
        read(folder, frames=[folder / "empty.txt"])


# ---------------------------------------------------------------------------------------------- Real frames


@pytest.mark.realdata
@pytest.mark.skipif(not os.environ.get("TIS_RAY_DATA"), reason="TIS_RAY_DATA is not set")
@pytest.mark.parametrize("rider", [False, True])
def test_real_label_images_equal_the_given_annotations(rider):
    folder = Path(os.environ["TIS_RAY_DATA"]) / "wad"
    given = json.loads((folder / "instances.json").read_text())
    ignored = json.loads((folder / "ignore_regions.json").read_text())
    dataset = wad.read(folder / "labels", folder / "images", rider=rider)
    assert len(dataset) == len(given["images"]) == 16
    compared = 0
    for image in given["images"]:
        (record,) = [one for one in dataset.images if f"images/{one.file_name}" == image["file_name"]]
        assert (record.height, record.width) == (image["height"], image["width"])
        truth = dataset.annotations(record.id)
        expected = sorted(
            (one for one in given["annotations"] if one["image_id"] == image["id"]),
            key=lambda one: one["instance_value"],
        )
        expected = [one for one in expected if one["category_id"] in dataset.categories.ids]
        objects = truth[~truth.crowd]
        assert [dataset.categories.ids[label] for label in objects.labels] == [one["category_id"] for one in expected]
        boxes = np.array([one["bbox"] for one in expected]).reshape(-1, 4)
        np.testing.assert_array_equal(objects.boxes, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
        for rle, one in zip(objects.masks.to_rle(record.height, record.width), expected, strict=True):
            assert rle == one["segmentation"]
        compared += len(expected)
        regions = truth[truth.crowd].masks.to_rle(record.height, record.width)
        assert bool(regions) == (str(image["id"]) in ignored)
        if regions:
            merged = coco_mask.merge(regions)
            assert merged["counts"].decode() == ignored[str(image["id"])]["counts"]
            assert coco_mask.area(merged) == coco_mask.area(regions).sum()
    num_riders = sum(one["category_id"] == 37 for one in given["annotations"])
    assert compared == len(given["annotations"]) - (0 if rider else num_riders)


@pytest.mark.realdata
@pytest.mark.skipif(not os.environ.get("TIS_RAY_DATA"), reason="TIS_RAY_DATA is not set")
def test_a_full_frame_costs_little_beside_its_decoding():
    (path,) = (Path(os.environ["TIS_RAY_DATA"]) / "wad" / "labels").glob("170927_064237233_Camera_6_*.png")
    labels = open_label_image(path)
    wad.to_annotations(labels)  # compiled or read from the cache
    start = time.process_time()
    assert len(wad.to_annotations(labels)) == 78
    assert time.process_time() - start < 0.25
