"""Maps of stuff as COCO-stuff writes them, and the mistakes in them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import DataError
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.stuff_maps import StuffMaps

LABELS = np.array([[0, 7, 181], [255, 91, 7]], np.uint8)
PICTURE = "000000000009.jpg"


def record_of(name: str = PICTURE, height: int = 2, width: int = 3) -> ImageRecord:
    return ImageRecord(9, name, Path("pictures") / name, height, width)


def write(folder: Path, labels: np.ndarray = LABELS, *, mode: str = "L", name: str = "000000000009.png") -> StuffMaps:
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([i % 256 for i in range(768)])
        assert image.mode == "P"
    elif mode != "L":
        image = image.convert(mode)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return StuffMaps(folder, 182)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_grey_and_palette_maps_have_their_numbers(tmp_path: Path, mode: str) -> None:
    found = write(tmp_path, mode=mode).read(record_of())
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize("colours", [2, 4, 16])
def test_numbers_in_a_small_palette_are_read_too(tmp_path: Path, colours: int) -> None:
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4) % colours
    image = Image.fromarray(labels)
    image.putpalette(list(range(3 * colours)))
    image.save(tmp_path / "000000000009.png")
    assert (tmp_path / "000000000009.png").read_bytes()[24] < 8  # bits
    np.testing.assert_array_equal(StuffMaps(tmp_path, 182).read(record_of(height=4, width=4)), labels)


@pytest.mark.parametrize(
    ("file_name", "place"),
    [
        (PICTURE, "000000000009.png"),
        (f"train2017/{PICTURE}", "train2017/000000000009.png"),
        (f"train2017/{PICTURE}", "000000000009.png"),
        (f"/elsewhere/{PICTURE}", "000000000009.png"),
        ("a.b.jpeg", "a.b.png"),
        ("a.png", "a.png"),
    ],
)
def test_a_map_is_named_as_its_image(tmp_path: Path, file_name: str, place: str) -> None:
    assert write(tmp_path, name=place).read(record_of(file_name)) is not None


def test_an_image_without_a_map_has_none(tmp_path: Path) -> None:
    assert write(tmp_path).read(record_of("other.jpg")) is None


def test_a_folder_without_any_image_s_map_is_refused(tmp_path: Path) -> None:
    maps = write(tmp_path)
    maps.check([record_of("other.jpg"), record_of()])
    maps.check([])
    with pytest.raises(DataError, match=r"maps of stuff named as the 1 images are; there is none, as other\.png"):
        maps.check([record_of("other.jpg")])


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0009\.png: expected 3x4 pixels as its image has; got 3x2"):
        write(tmp_path).read(record_of(height=4))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "RGB"), ("RGBA", "RGBA"), ("LA", "LA"), ("1", "1"), ("I;16", "I;16B")]
)
def test_pictures_are_no_maps(tmp_path: Path, mode: str, kind: str) -> None:
    if mode == "I;16":
        Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "000000000009.png")
        maps = StuffMaps(tmp_path, 182)
    else:
        maps = write(tmp_path, mode=mode)
    with pytest.raises(DataError, match=rf"0009\.png: expected a map of stuff, .*; got {kind} of 3x2"):
        maps.read(record_of())


def test_other_files_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path, maps = tmp_path / "000000000009.png", StuffMaps(tmp_path, 182)
    Image.fromarray(LABELS).save(path, format="JPEG")
    with pytest.raises(DataError, match="got another or a damaged file"):
        maps.read(record_of())
    write(tmp_path, np.random.default_rng(0).integers(0, 182, (60, 60), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match="got another or a damaged file"):
        maps.read(record_of(height=60, width=60))


def test_a_value_that_is_no_class_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path)
    assert StuffMaps(tmp_path, 182).read(record_of()) is not None
    with pytest.raises(DataError, match=r"0009\.png: expected values 0 to 180, .*num_classes says, or 255; got 181"):
        StuffMaps(tmp_path, 181).read(record_of())
