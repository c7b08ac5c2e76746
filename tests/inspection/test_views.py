"""Which frames a recipe's views look at, and how many share a forward."""

import pytest

from tests.tiny import tiny_recipe
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError
from tis_ray.inspection.views import default_image_hw, frames_of, views_of

DATA = {"train": {"annotations": "unused.json"}, "scales": [64, 96], "max_long_edge": 200}
STRIP = {"strip": {"box": [0, 1000, 3384, 2000], "scales": [500]}}


def frames(recipe: Recipe, *scales: int, image_hw: tuple[int, int] = (480, 640)) -> list[tuple[object, ...]]:
    found = frames_of(views_of(recipe, scales), image_hw)
    return [(one.key, one.network_hw, one.per_image, one.per_batch) for one in found]


def test_a_recipe_without_test_is_looked_at_by_its_last_training_scale() -> None:
    assert frames(tiny_recipe(data=DATA)) == [("96", (96, 128), 1, 1)]


def test_mirror_images_share_a_forward() -> None:
    recipe = tiny_recipe(test={"scales": [240, 480], "max_long_edge": 320, "flip": True})
    assert frames(recipe) == [("240", (240, 320), 2, 2), ("480", (240, 320), 2, 2)]


def test_crops_are_views_of_their_own() -> None:
    recipe = tiny_recipe(test={"scales": [240], "crops": STRIP, "flip": False})
    assert frames(recipe, image_hw=(2710, 3384))[1] == ("500.strip", (500, 1692), 1, 1)


def test_tiles_share_a_forward_as_far_as_the_predictor_lets_them() -> None:
    tiles = {"grid": {"tiles": {"width": 800, "height": 800, "overlap": 0}, "scales": [800]}}
    recipe = tiny_recipe(test={"crops": tiles, "flip": True})
    # 2 x 2 tiles with their mirror images; 2 million pixels hold one pair of 0.64 million each
    assert frames(recipe, image_hw=(1600, 1600)) == [("800.grid", (800, 800), 8, 2)]
    small = tiny_recipe(test={"crops": {"grid": tiles["grid"] | {"scales": [400]}}, "flip": True})
    assert frames(small, image_hw=(1600, 1600)) == [("400.grid", (400, 400), 8, 8)]


def test_other_scales_keep_the_recipe_s_flips_and_longest_edge() -> None:
    recipe = tiny_recipe(test={"scales": [240], "crops": STRIP, "max_long_edge": 600, "flip": True})
    assert frames(recipe, 120, 960) == [("120", (120, 160), 2, 2), ("960", (450, 600), 2, 2)]


def test_a_recipe_that_tells_no_views_asks_for_scales() -> None:
    bare = tiny_recipe(data=None)
    with pytest.raises(ConfigError, match="--scale: expected at least one"):
        views_of(bare)
    assert frames(bare, 120) == [("120", (120, 160), 1, 1)]


def test_a_crop_outside_the_image_asks_for_another_size() -> None:
    recipe = tiny_recipe(test={"scales": [240], "crops": STRIP})
    with pytest.raises(ConfigError, match=r"--image: expected a size that crop strip .* meets; got 640x480"):
        frames(recipe)


def test_images_are_those_of_wad_or_of_coco() -> None:
    wad = {"train": {"labels": "labels", "images": "images"}}
    assert default_image_hw(tiny_recipe(data=wad)) == (2710, 3384)
    assert default_image_hw(tiny_recipe()) == default_image_hw(tiny_recipe(data=None)) == (480, 640)
