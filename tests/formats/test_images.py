"""Image files and bytes of every kind become uint8 RGB, and bad ones one clear error."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import DataError, InputError
from tis_ray.formats.images import Header, PixelLimitError, decode_image, encoded_size, open_image, read_header

RNG_SEED = 0


def _picture(mode: str) -> Image.Image:
    rgb = np.random.default_rng(RNG_SEED).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    return Image.fromarray(rgb).convert(mode)


def _bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("JPEG2000", {})],
)
def test_lossless_kinds_give_the_stored_pixels(kind, options):
    picture = _picture("RGB")
    assert np.array_equal(decode_image(_bytes(picture, kind, **options), max_pixels=None), np.asarray(picture))


@pytest.mark.parametrize("size_hw", [(400, 700), (3, 100_000), (1, 1)])
def test_pixels_that_are_copied_in_bands_are_all_there(size_hw):
    """Several bands, of which the last is a part; rows that are longer than a band; a pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    found = decode_image(_bytes(Image.fromarray(pixels), "PPM"), max_pixels=None)
    assert np.array_equal(found, pixels)
    assert found.flags.writeable


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(mode):
    picture = _picture(mode)
    image = decode_image(_bytes(picture, "PNG"), max_pixels=None)
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.asarray(picture.convert("RGB")))
    assert image.flags.writeable


def test_a_palette_with_transparency_keeps_its_colours():
    picture = _picture("P")
    data = _bytes(picture, "PNG", transparency=bytes(range(256)))
    assert np.array_equal(decode_image(data, max_pixels=None), np.asarray(picture.convert("RGB")))


def test_16_bit_grey_keeps_its_high_byte():
    values = np.arange(13 * 17, dtype=np.uint16).reshape(13, 17) * 256 + 200
    image = decode_image(_bytes(Image.fromarray(values), "PNG"), max_pixels=None)
    assert np.array_equal(image, np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_cmyk_jpeg_becomes_rgb():
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    image = decode_image(_bytes(red, "JPEG", quality=100), max_pixels=None)
    assert np.abs(image.astype(int) - [200, 30, 40]).max() <= 6


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees for display
    assert decode_image(_bytes(_picture("RGB"), "JPEG", exif=exif), max_pixels=None).shape == (13, 17, 3)


def test_the_size_of_encoded_bytes_comes_from_the_header_alone():
    data = _bytes(_picture("RGB").resize((60, 40)), "PNG")
    assert encoded_size(data[:100], max_pixels=2400) == (40, 60)
    with pytest.raises(PixelLimitError, match="60 x 40 = 2400"):
        encoded_size(data, max_pixels=2399)
    with pytest.raises(InputError, match="cut short"):
        encoded_size(data[:20], max_pixels=None)
    with pytest.raises(InputError, match="other bytes"):
        encoded_size(b"none", max_pixels=None)


def test_the_pixel_limit_is_inclusive():
    data = _bytes(_picture("RGB"), "PNG")
    assert decode_image(data, max_pixels=13 * 17).shape == (13, 17, 3)
    with pytest.raises(PixelLimitError, match=r"at most 220 pixels; got 17 x 13 = 221"):
        decode_image(data, max_pixels=13 * 17 - 1)


@pytest.mark.parametrize("size", [(20_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_pixel_bomb_is_refused_by_its_header(size):
    with pytest.raises(PixelLimitError, match=f"got {size[0]} x {size[1]}"):
        decode_image(_png_header(*size), max_pixels=100_000_000)


@pytest.mark.parametrize(
    ("side", "message"),
    [(12_000, "got 12000 x 12000"), (16_383, "at most 100000000 pixels; got a WebP of more than 178956970")],
)
def test_a_webp_bomb_is_refused_by_its_header(side, message):
    data = bytearray(_bytes(_picture("RGB"), "WEBP", save_all=True, append_images=[_picture("L").convert("RGB")]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (side - 1).to_bytes(3, "little") * 2  # the canvas, less one
    with pytest.raises(PixelLimitError, match=message):
        decode_image(bytes(data), max_pixels=100_000_000)


def _outcome(data: bytes) -> tuple[int, ...] | str:
    """The shape of the image, or the message of its refusal."""
    try:
        return decode_image(data, max_pixels=10_000).shape
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM"])
def test_every_truncation_is_refused_in_one_line(kind):
    data = _bytes(_picture("RGB"), kind)
    step = max(len(data) // 60, 1)
    outcomes = [_outcome(data[:length]) for length in range(0, len(data) - step, step)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert all(refusal.startswith("image: expected") and "\n" not in refusal for refusal in refusals)
    assert len(refusals) > 0.8 * len(outcomes)  # some readers need no trailer, or the last block of pixels only in part


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM"])
def test_damaged_bytes_raise_nothing_but_input_errors(kind):
    data = np.frombuffer(_bytes(_picture("RGB"), kind), dtype=np.uint8)
    rng = np.random.default_rng(RNG_SEED)
    refused = 0
    for _ in range(100):
        damaged = data.copy()
        damaged[rng.integers(0, min(len(data), 60), 4)] = rng.integers(0, 256, 4)  # mostly the header
        refused += isinstance(_outcome(damaged.tobytes()), str)
    assert refused > 10


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got no bytes"),
        (b"hello", "got other bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "got other bytes"),
        (b"RIFF\0\0\0\0WAVEfmt ", "got other bytes"),
    ],
    ids=["empty", "text", "postscript", "wave"],
)
def test_bytes_that_are_no_image_name_the_kinds_expected(data, message):
    with pytest.raises(InputError, match=f"expected one of JPEG, PNG, .*{message}"):
        decode_image(data, max_pixels=None)


def test_a_half_jpeg_file_names_the_file(tmp_path):
    path = tmp_path / "half.jpg"
    data = _bytes(_picture("RGB").resize((170, 130)), "JPEG")
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DataError, match=r"half\.jpg: image: expected a whole JPEG image of 170 x 130; got \d+ bytes"):
        open_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: image cannot be read \(No such file"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="Is a directory"):
        open_image(tmp_path)


def test_a_file_of_one_s_own_may_be_larger_than_pillow_s_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "large.png"
    path.write_bytes(_bytes(_picture("RGB"), "PNG"))
    assert open_image(path).shape == (13, 17, 3)


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_header_says_size_and_orientation(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WebP", "webp")):
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (30, 20)).save(path, exif=exif)
        assert read_header(path) == Header(kind, 20, 30, orientation)


def test_a_header_is_read_without_the_pixels(tmp_path: Path):
    path = tmp_path / "cut.jpg"
    Image.effect_noise((300, 200), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert read_header(path) == Header("JPEG", 200, 300, 1)
    with pytest.raises(DataError, match=r"cut\.jpg: image: .* cut short"):
        open_image(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"], ids=str)
def test_a_file_without_a_header_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: image"):
        read_header(path)
    with pytest.raises(DataError, match=r"none\.jpg: image cannot be read \(No such file"):
        read_header(tmp_path / "none.jpg")
