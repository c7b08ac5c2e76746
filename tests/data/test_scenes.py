"""Scene sets: exact masks, honest statistics, the same bytes again, and clear refusals."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tis_ray.data.scenes import DEFAULT_SIZE_WH, categories, render_scene, write_scenes
from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas
from tis_ray.data.scenes.classes import scene_classes
from tis_ray.data.scenes.layout import Thing
from tis_ray.data.scenes.light import Light
from tis_ray.data.scenes.render import MIN_VISIBLE_PX, paint_scene, visible_annotations
from tis_ray.data.scenes.thin import paint_thin
from tis_ray.data.scenes.write import ScenesSummary
from tis_ray.errors import InputError
from tis_ray.instances import Categories

SMALL = (128, 96)
NUM, NUM_THIN = 60, 24
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


@pytest.fixture(scope="module")
def scene_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScenesSummary, list[int]]:
    """Sixty pictures of the default size, one process."""
    out, progress = tmp_path_factory.mktemp("scenes") / "new", []
    summary = write_scenes(out, num_images=NUM, processes=1, on_progress=progress.append)
    return out, summary, progress


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _read(out: Path) -> tuple[dict, dict]:  # type: ignore[type-arg]
    train, val = (json.loads((out / f"instances_{split}.json").read_text()) for split in ("train", "val"))
    return train, val


@pytest.mark.parametrize("preset", ["driving", "thin"])
@pytest.mark.parametrize("index", range(4))
def test_annotations_are_exactly_the_numbered_pixels(index: int, preset: str) -> None:
    _, canvas, labels = paint_scene(5, DEFAULT_SIZE_WH, scene_classes(preset), index=index)
    found = visible_annotations(canvas, labels)
    again = np.zeros_like(canvas.ids)
    numbers = [n for n in np.unique(canvas.ids) if n and (canvas.ids == n).sum() >= MIN_VISIBLE_PX]
    assert len(found) == len(numbers) > 0
    decoded = coco_mask.decode(found.masks.to_rle(*canvas.ids.shape))
    for k, number in enumerate(numbers):
        assert not again[decoded[:, :, k] > 0].any()
        again[decoded[:, :, k] > 0] = number
        assert found.labels[k] == labels[number - 1]
    np.testing.assert_array_equal(again, np.where(np.isin(canvas.ids, numbers), canvas.ids, 0))


def test_boxes_are_tight_and_areas_count_pixels(scene_set: tuple[Path, ScenesSummary, list[int]]) -> None:
    train, val = _read(scene_set[0])
    for entry in train["annotations"] + val["annotations"]:
        mask = coco_mask.decode(entry["segmentation"])
        rows, columns = np.nonzero(mask)
        x, y, w, h = entry["bbox"]
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert entry["area"] == mask.sum() >= MIN_VISIBLE_PX
        assert entry["iscrowd"] == 0


def test_json_and_images_belong_together(scene_set: tuple[Path, ScenesSummary, list[int]]) -> None:
    out, summary, progress = scene_set
    train, val = _read(out)
    assert progress == list(range(1, NUM + 1))
    assert (summary.num_train, summary.num_val) == (len(train["images"]), len(val["images"])) == (45, 15)
    images = train["images"] + val["images"]
    assert sorted(image["file_name"] for image in images) == sorted(p.name for p in summary.images_dir.iterdir())
    for image in images:
        with Image.open(summary.images_dir / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == DEFAULT_SIZE_WH
            assert picture.mode == "RGB"
    for part in (train, val):
        ids = {image["id"] for image in part["images"]}
        assert {entry["image_id"] for entry in part["annotations"]} <= ids
    every = train["annotations"] + val["annotations"]
    assert len({entry["id"] for entry in every}) == len(every) == sum(summary.instances.values())
    table = Categories.from_json(train["categories"])
    assert table.ids == categories("driving").ids == (33, 34, 35, 36, 38, 39, 40)
    assert set(table.supercategories) == {"vehicle", "human"}


def test_some_pictures_are_empty_and_still_written(scene_set: tuple[Path, ScenesSummary, list[int]]) -> None:
    out, summary, _ = scene_set
    train, val = _read(out)
    filled = {entry["image_id"] for entry in train["annotations"] + val["annotations"]}
    empty = [image for image in train["images"] + val["images"] if image["id"] not in filled]
    assert 1 <= len(empty) <= NUM // 6
    assert all((summary.images_dir / image["file_name"]).exists() for image in empty)


def test_sizes_and_classes_follow_the_paper_at_the_default_size(
    scene_set: tuple[Path, ScenesSummary, list[int]],
) -> None:
    out, summary, _ = scene_set
    every = [entry for part in _read(out) for entry in part["annotations"]]
    sides = np.sqrt([entry["area"] for entry in every])
    share = np.array(list(summary.instances.values())) / len(sides)
    assert summary.share_under_32px == pytest.approx((sides < 32).mean())
    assert summary.share_under_16px == pytest.approx((sides < 16).mean())
    assert 0.5 < summary.share_under_32px < 0.7
    assert 0.14 < summary.share_under_16px < 0.33
    assert 0.01 < (sides > 96).mean() < 0.15
    assert 6 < len(every) / NUM < 20
    assert share.min() > 0  # every class is there
    assert share.argmax() == 0  # car
    assert 0.5 < share[0] < 0.75
    assert 0.1 < share[3] < 0.3  # person


def test_objects_grow_with_the_frame() -> None:
    sides = [
        np.median([a for index in range(5) for a in np.sqrt(render_scene(1, size, index=index)[1].masks.areas())])
        for size in ((256, 192), (512, 384))
    ]
    assert 1.5 < sides[1] / sides[0] < 2.5


def test_pictures_depend_on_seed_and_index_alone(scene_set: tuple[Path, ScenesSummary, list[int]]) -> None:
    picture, annotations = render_scene(0, index=7)
    again, same = render_scene(0, index=7)
    np.testing.assert_array_equal(picture, again)
    np.testing.assert_array_equal(annotations.boxes, same.boxes)
    assert (render_scene(1, index=7)[0] != picture).any()
    assert (render_scene(0, index=8)[0] != picture).any()
    train, _ = _read(scene_set[0])
    written = [entry["area"] for entry in train["annotations"] if entry["image_id"] == 8]
    assert written == annotations.masks.areas().tolist()


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        write_scenes(tmp_path / str(processes), num_images=4, size_wh=SMALL, seed=3, processes=processes)
    assert _digests(tmp_path / "1") == _digests(tmp_path / "2")


def test_longtail_counts_its_training_images(tmp_path: Path) -> None:
    summary = write_scenes(tmp_path, num_images=20, preset="longtail", size_wh=SMALL, processes=1)
    train, val = _read(tmp_path)
    assert len(train["categories"]) == 48
    assert train["categories"] == val["categories"]
    for entry in train["categories"]:
        mine = [a for a in train["annotations"] if a["category_id"] == entry["id"]]
        images = len({a["image_id"] for a in mine})
        assert (entry["instance_count"], entry["image_count"]) == (len(mine), images)
        assert entry["frequency"] == ("r" if images <= 10 else "c" if images <= 100 else "f")
    assert {entry["frequency"] for entry in train["categories"]} == {"r", "c"}
    for image in val["images"]:
        present = {a["category_id"] for a in val["annotations"] if a["image_id"] == image["id"]}
        assert sorted(present | set(image["neg_category_ids"])) == list(range(1, 49))
    assert max(summary.instances, key=lambda name: summary.instances[name]) == "white car"


def test_thin_things_fill_little_of_boxes_of_all_sizes() -> None:
    shares, sides, labels, beside = [], [], [], 0
    for index in range(NUM_THIN):
        _, everything = render_scene(0, preset="thin", index=index)
        found = everything[everything.labels < 6]
        beside += len(everything) - len(found)
        areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
        shares += (found.masks.areas() / areas).tolist()
        sides += np.sqrt(areas).tolist()
        labels += found.labels.tolist()
    shares, sides = np.array(shares), np.array(sides)
    assert 4 < len(shares) / NUM_THIN < 12
    assert shares.mean() < 0.25
    assert np.quantile(shares, 0.8) < 0.3
    assert ((sides > 112) & (shares < 0.2)).mean() > 0.2
    assert np.quantile(sides, 0.1) < 32
    assert sides.max() > 250
    assert np.bincount(labels, minlength=6).min() >= 5
    assert 1 < beside / NUM_THIN < 10  # vehicles and people
    again = render_scene(0, preset="thin", index=NUM_THIN - 1)[1]
    assert [crop.tobytes() for crop in again.masks.crops] == [crop.tobytes() for crop in everything.masks.crops]


def test_thin_masks_are_connected_where_nothing_hides_them() -> None:
    """A cable is less than two pixels wide: gaps would be torn into it if its mask followed only what it covers."""
    for seed in range(6):
        sky = Canvas(Image.new("RGB", DEFAULT_SIZE_WH))
        camera, light = Camera(DEFAULT_SIZE_WH, 550.0, 256.0, 180.0, 1.6), Light.draw(np.random.default_rng(seed))
        cable = Thing("cable", 0, 0.0, 30.0, 1.0, 6.0, (-9.0, 9.0, 25.0 - seed, 28.0 + seed), seed)
        paint_thin(sky, camera, light, np.random.default_rng(seed), cable, number=1)
        columns = np.flatnonzero((sky.ids == 1).any(axis=0))
        assert len(columns) == np.ptp(columns) + 1 > 100
        assert (sky.ids == 1).sum() < 0.2 * np.prod(np.ptp(np.argwhere(sky.ids == 1), axis=0))


@pytest.mark.parametrize("preset", ["driving", "thin"])
@pytest.mark.parametrize("size_wh", [(64, 64), (64, 400), (400, 64), (101, 99)], ids=str)
def test_odd_sizes_work(size_wh: tuple[int, int], preset: str) -> None:
    for index in range(3):
        picture, annotations = render_scene(2, size_wh, preset, index=index)
        assert picture.shape == (size_wh[1], size_wh[0], 3)
        assert (annotations.boxes[:, 2:] <= np.array(size_wh)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_wh": (63, 64)}, "size: expected width and height of 64..8192 px; got 63x64"),
        ({"size_wh": (64, 8193)}, "size: expected width and height of 64..8192 px; got 64x8193"),
        ({"num_images": 1}, "num_images: expected at least 2, .*; got 1"),
        ({"preset": "drivng"}, "preset: expected one of driving, longtail, thin; got 'drivng'"),
        ({"val_fraction": 1.0}, "val_fraction: expected a share between 0 and 1; got 1.0"),
        ({"processes": 0}, "processes: expected at least 1, .*; got 0"),
        ({"seed": -1}, "seed: expected a whole number from 0; got -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused_before_anything_is_written(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        write_scenes(out, **({"num_images": 2} | settings))  # type: ignore[arg-type]
    assert not out.exists()


def test_a_folder_of_other_settings_is_refused_and_the_same_are_taken(tmp_path: Path) -> None:
    write_scenes(tmp_path, num_images=2, size_wh=(64, 64), processes=1)
    before = _digests(tmp_path)
    with pytest.raises(InputError, match="out: expected a new folder or a scene set of the same settings"):
        write_scenes(tmp_path, num_images=2, size_wh=(64, 64), seed=1, processes=1)
    write_scenes(tmp_path, num_images=2, size_wh=(64, 64), processes=1)
    assert _digests(tmp_path) == before


def test_another_data_set_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "instances_train.json").write_text("{}")
    with pytest.raises(InputError, match="out: expected a new folder or a scene set; got another data set"):
        write_scenes(tmp_path, num_images=2, processes=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out: expected a folder or a new path; got a file"):
        write_scenes(tmp_path / "file", num_images=2, processes=1)


def test_importing_the_scenes_leaves_pytorch_alone() -> None:
    code = "import sys, tis_ray.data.scenes; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
