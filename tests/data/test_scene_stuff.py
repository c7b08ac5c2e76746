"""Maps of stuff of scenes: what every pixel shows, told as COCO-stuff tells it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.data.scenes import backdrop, render_scene, write_scenes
from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.classes import _PRESETS, scene_classes
from tis_ray.data.scenes.light import Light
from tis_ray.data.scenes.street import Street
from tis_ray.data.scenes.stuff import BUILDING, GRASS, GROUND, PAVEMENT, ROAD, SKY, TREE, stuff_categories
from tis_ray.errors import InputError
from tis_ray.formats import coco
from tis_ray.formats.stuff_maps import StuffMaps

SIZE_WH = (320, 240)
NUM_VALUES = 99


def street_of(seed: int) -> tuple[Camera, Light, Street]:
    rng = np.random.default_rng(seed)
    return Camera.draw(rng, SIZE_WH), Light.draw(rng), Street.draw(rng)


@pytest.mark.parametrize("preset", ["driving", "longtail", "thin"])
def test_objects_are_their_classes_and_nothing_else_is(preset: str) -> None:
    classes = scene_classes(preset)
    for index in range(3):
        picture, truth = render_scene(3, SIZE_WH, preset, index=index)
        assert truth.stuff is not None
        assert (truth.stuff.dtype, truth.stuff.shape) == (np.uint8, picture.shape[:2])
        objects = np.zeros_like(truth.stuff)
        for label, crop, (x, y) in zip(truth.labels, truth.masks.crops, truth.masks.offsets, strict=True):
            place = objects[y : y + crop.shape[0], x : x + crop.shape[1]]
            place[crop > 0] = classes[label].category_id
        np.testing.assert_array_equal(truth.stuff[objects > 0], objects[objects > 0] - 1)
        hidden = (truth.stuff < SKY) & (objects == 0)  # of objects that show too little to be annotated
        assert hidden.mean() < 0.001


@pytest.mark.parametrize("seed", range(4))
def test_sky_is_where_the_sky_s_colour_shows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same street under a black and a white sky: the share of white in a pixel is the sky's in it."""
    camera, light, street = street_of(seed)
    painted = backdrop._sky
    pictures = []
    for tone in (0, 255):

        def plain(*given: object, tone: int = tone) -> Image.Image:
            return Image.new("RGB", painted(*given).size, (tone, tone, tone))

        monkeypatch.setattr(backdrop, "_sky", plain)
        monkeypatch.setattr(backdrop, "_weathered", lambda _, picture: picture)
        picture, stuff = backdrop.paint_backdrop(np.random.default_rng(seed), camera, light, street)
        pictures.append(np.asarray(picture).astype(int)[..., 0])
    share = (pictures[1] - pictures[0]) / 255
    assert 0.02 < (share > 0.99).mean() < 0.6
    assert (share[stuff == SKY] > 0.2).all()
    assert (share[stuff != SKY] < 0.8).all()
    assert ((share > 0.01) & (share < 0.99)).mean() < 0.02


def test_the_ground_is_what_the_street_s_plan_says() -> None:
    looked_at = {"road": 0, "aside": 0}
    for seed in range(6):
        camera, light, street = street_of(seed)
        _, stuff = backdrop.paint_backdrop(np.random.default_rng(seed), camera, light, street)
        rng = np.random.default_rng(seed)
        (left, right), (wall_left, wall_right) = street.kerbs, street.walls
        for x, z in zip(rng.uniform(wall_left, wall_right, 2000), np.exp(rng.uniform(0.9, 3.5, 2000)), strict=True):
            column, row = (int(place) for place in camera.ground(x, z))
            if not (0 <= column < SIZE_WH[0] and 0 <= row < SIZE_WH[1]) or street.in_crossing(z, 0.1 * z):
                continue
            margin = 0.01 * z  # more than a pixel
            if left + margin < x < right - margin:
                looked_at["road"] += 1
                assert stuff[row, column] == ROAD
            elif wall_left + margin < x < left - 1.6 - margin or right + 1.6 + margin < x < wall_right - margin:
                looked_at["aside"] += 1  # mended asphalt reaches 1.6 m beyond a kerb
                assert stuff[row, column] in (PAVEMENT, GRASS)
    assert min(looked_at.values()) > 200, looked_at


def test_streets_have_houses_trees_and_what_has_no_name() -> None:
    values = set()
    for index in range(8):
        values |= set(np.unique(render_scene(0, SIZE_WH, index=index)[1].stuff).tolist())
    assert {SKY, BUILDING, ROAD, PAVEMENT, GROUND, TREE, 255} <= values  # 255: riders
    assert values <= {*range(NUM_VALUES), 255}


def test_ids_of_stuff_come_behind_those_of_every_preset() -> None:
    ids = [one["id"] for one in stuff_categories()]
    assert ids == sorted(set(ids)) == list(range(SKY + 1, NUM_VALUES + 1))
    assert all(one["name"] and one["supercategory"] for one in stuff_categories())
    for preset in _PRESETS:
        assert max(one.category_id for one in scene_classes(preset)) < ids[0]


def test_maps_are_written_beside_the_images_and_read_back(tmp_path: Path) -> None:
    summary = write_scenes(tmp_path, num_images=3, size_wh=SIZE_WH, seed=5, processes=1)
    assert summary.stuff_dir == tmp_path / "stuff"
    maps = StuffMaps(summary.stuff_dir, NUM_VALUES)
    for split in ("train", "val"):
        assert json.loads((tmp_path / f"instances_{split}.json").read_text())["stuff_categories"] == stuff_categories()
        dataset = coco.read(tmp_path / f"instances_{split}.json")
        maps.check(dataset.images)
        for record in dataset.images:
            np.testing.assert_array_equal(maps.read(record), render_scene(5, SIZE_WH, index=record.id - 1)[1].stuff)
    assert len(list(summary.stuff_dir.iterdir())) == 3


def test_a_set_from_before_there_were_maps_gets_them(tmp_path: Path) -> None:
    settings = {"num_images": 2, "size_wh": (64, 64), "processes": 1}
    write_scenes(tmp_path, **settings)
    maps = {path.name: path.read_bytes() for path in (tmp_path / "stuff").iterdir()}
    noted = json.loads((tmp_path / "scenes.json").read_text())
    assert noted.pop("stuff") is True
    (tmp_path / "scenes.json").write_text(json.dumps(noted))
    for path in (tmp_path / "stuff").iterdir():
        path.unlink()
    (tmp_path / "stuff").rmdir()
    with pytest.raises(InputError, match="out: expected a new folder or a scene set of the same settings"):
        write_scenes(tmp_path, **settings | {"seed": 1})
    assert not (tmp_path / "stuff").exists()
    write_scenes(tmp_path, **settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "stuff").iterdir()} == maps
    assert json.loads((tmp_path / "scenes.json").read_text())["stuff"] is True
