"""Where overlays go: none over another, none over an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving.scripted import ANSWER, ROW
from tis_ray.errors import ConfigError, DataError
from tis_ray.serving.answers import Result
from tis_ray.serving.drawings import Drawings
from tis_ray.serving.picked import Picked, PickedImage, pick_images


def picked(*paths: str) -> Picked:
    return Picked(tuple(PickedImage(path, Path(path).name) for path in paths), 0)


def test_folders_below_a_folder_stay_apart(tmp_path):
    for name in ("in/x/a.jpg", "in/y/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    found = pick_images([tmp_path / "in"], recursive=True)
    drawings = Drawings.to(tmp_path / "out", found)
    assert [drawings.target(image) for image in found.images] == [tmp_path / "out/x/a.png", tmp_path / "out/y/a.png"]


@pytest.mark.parametrize(
    ("overlay", "paths", "message"),
    [
        ("out", ["x/a.png", "y/a.jpg"], r"expected images of different names; got x/a\.png, y/a\.jpg$"),
        (
            "out",
            ["x/a.png", "y/a.jpg", "z/a.jpg"],
            r"expected images of different names; got x/a\.png, y/a\.jpg and 1 more",
        ),
        ("one.png", ["x/a.png", "x/b.jpg"], r"expected a folder for 2 images; got one\.png"),
        ("x", ["x/a.png", "x/b.jpg"], r"expected another place than the images'; x/a\.png would be lost"),
        ("x/a.png", ["x/a.png"], r"expected another place than the images'; x/a\.png would be lost"),
    ],
)
def test_nothing_is_drawn_over(overlay, paths, message):
    with pytest.raises(ConfigError, match=f"--overlay: {message}"):
        Drawings.to(Path(overlay), picked(*paths))


def test_a_picture_is_drawn_into_a_folder_that_is_made(tmp_path):
    source = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(source)
    found = picked(str(source))
    rows = [ROW | {"segmentation": None, "bbox": [10, 10, 20, 20]}]
    result = Result.from_json(ANSWER | {"image": {"width": 60, "height": 40, "sha256": ""}, "instances": rows})
    target = Drawings.to(tmp_path / "new" / "deep", found).draw(found.images[0], result, score_threshold=0.3)
    assert target == tmp_path / "new" / "deep" / "a.png"
    assert np.asarray(Image.open(target))[10, 10:30].any()
    source.unlink()
    with pytest.raises(DataError, match=r"a\.jpg"):
        Drawings.to(tmp_path / "new", found).draw(found.images[0], result, score_threshold=0.3)
