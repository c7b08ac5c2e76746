"""What annotation tools import: read by pycocotools and by our own reader, masks to the pixel."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from pycocotools.coco import COCO

from tis_ray.formats import coco
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories, Instances
from tis_ray.masks import RunMasks
from tis_ray.ops import crop_runs
from tis_ray.submission.formats import annotations

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

SIZE_HW = (24, 32)
CLASSES = Categories((0, 7), ("car", "person"))
ORIGIN = np.zeros((1, 2), np.int32)


def pixels() -> list[np.ndarray]:
    """A ring with an island in its hole, one pixel, two parts that touch by a corner, one in a corner, noise, none."""
    masks = [np.zeros(SIZE_HW, np.uint8) for _ in range(6)]
    masks[0][3:20, 4:25] = 1
    masks[0][6:17, 8:20] = 0
    masks[0][9:12, 11:14] = 1
    masks[1][13, 21] = 1
    masks[2][2:4, 2:4] = masks[2][4:6, 4:6] = 1
    masks[3][23:, 30:] = 1
    masks[4][:] = np.random.default_rng(3).random(SIZE_HW) < 0.5
    return masks


def found(masks: list[np.ndarray] | None, *, count: int) -> Instances:
    boxes = np.tile(np.array([[5, 4, 12, 9]], np.float32), (count, 1))
    runs = None
    if masks is not None:
        runs = RunMasks(crop_runs.of_crops(masks, np.repeat(ORIGIN, count, axis=0), *SIZE_HW))
    return Instances.of(boxes, np.linspace(0.9, 0.4, count), np.arange(count) % 2, runs)


def written(path: Path, *images: Instances) -> dict:
    with annotations.open_writer(path) as write:
        for i, instances in enumerate(images, start=4):
            write(instances, image=ListedImage(i, f"a/{i}.jpg", Path()), categories=CLASSES, size_hw=SIZE_HW)
    return orjson.loads(path.read_bytes())


def test_masks_survive_to_the_pixel_where_polygons_are_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, masks = tmp_path / "a.json", pixels()
    content = written(path, found(masks, count=6), Instances.empty())
    reference, own = COCO(str(path)), coco.read(path)
    capsys.readouterr()  # what pycocotools prints
    assert [entry["id"] for entry in content["annotations"]] == [1, 2, 3, 4, 5, 6]
    for entry, mask in zip(content["annotations"], masks[:5], strict=False):
        np.testing.assert_array_equal(reference.annToMask(entry), mask)
        ys, xs = np.nonzero(mask)
        x, y = xs.min(), ys.min()
        assert entry["bbox"] == [x, y, xs.max() + 1 - x, ys.max() + 1 - y]
        assert (entry["area"], entry["iscrowd"]) == (mask.sum(), 0)
    read = own.annotations(4).masks
    np.testing.assert_array_equal(read.areas()[:5], [mask.sum() for mask in masks[:5]])


def test_an_empty_mask_and_none_leave_a_box(tmp_path: Path) -> None:
    for name, masks in (("empty", [np.zeros(SIZE_HW, np.uint8)]), ("none", None)):
        (entry,) = written(tmp_path / name, found(masks, count=1))["annotations"]
        assert (entry["segmentation"], entry["bbox"], entry["area"]) == ([], [5, 4, 7, 5], 35)
        assert coco.read(tmp_path / name).annotations(4).boxes.tolist() == [[5, 4, 12, 9]]


def test_boxes_are_cut_to_the_image_and_what_is_outside_is_left_out(tmp_path: Path) -> None:
    boxes = np.array([[-9, 4, 12, 90], [32, 4, 40, 9], [-5, -5, 0, 0]], np.float32)
    content = written(tmp_path / "a.json", Instances.of(boxes, np.array([0.5, 0.4, 0.3]), np.zeros(3)))
    assert [entry["bbox"] for entry in content["annotations"]] == [[0, 4, 12, 20]]


def test_images_without_finds_are_listed_and_no_class_has_the_id_that_means_none(tmp_path: Path) -> None:
    content = written(tmp_path / "a.json", Instances.empty(), found(None, count=2))
    assert content["images"] == [{"id": i, "file_name": f"a/{i}.jpg", "height": 24, "width": 32} for i in (4, 5)]
    assert [(one["id"], one["name"]) for one in content["categories"]] == [(1, "car"), (8, "person")]
    assert [entry["category_id"] for entry in content["annotations"]] == [1, 8]
    assert all(one["supercategory"] for one in content["categories"])


def test_no_image_at_all_and_a_failure_leave_a_whole_file_or_none(tmp_path: Path) -> None:
    assert written(tmp_path / "a.json") == {"images": [], "categories": [], "annotations": []}
    with pytest.raises(ZeroDivisionError), annotations.open_writer(tmp_path / "b.json"):
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
