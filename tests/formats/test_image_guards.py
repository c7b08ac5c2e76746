"""Crafted images that would take far more time or memory than their pixels are refused before they do."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import InputError
from tis_ray.formats import image_guards
from tis_ray.formats.image_guards import MAX_PIECES, MAX_SCANS
from tis_ray.formats.images import decode_image, encoded_size

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def encoded(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


def with_more_scans(jpeg: bytes, count: int) -> bytes:
    """The last scan of a progressive JPEG, so many times more."""
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + count * scan + jpeg[-2:]


def tiff(tags: dict[int, int], data: bytes) -> bytes:
    """A grey TIFF of 16 x 16 in one deflated piece, with further or other tags."""
    plain = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1} | tags
    start = 8 + 2 + 12 * len(plain) + 4
    rows = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if value < 0 else value) for tag, value in sorted(plain.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(plain)) + rows + bytes(4) + data


def tiled(width: int, height: int) -> bytes:
    data = zlib.compress(bytes(256))
    return tiff({322: width, 323: height, 324: -1, 325: len(data)}, data)


def test_a_progressive_jpeg_is_no_bomb():
    whole = encoded("JPEG", progressive=True)
    assert whole.count(b"\xff\xda") < 20
    assert decode_image(whole, max_pixels=10_000).shape == PIXELS.shape


def test_a_jpeg_of_thousands_of_scans_is_refused_before_any_is_decoded():
    """Each scan of some thirty bytes takes as long as all of the picture: a file of 64 MB, hours."""
    stream = io.BytesIO()
    Image.new("L", (2000, 2000)).save(stream, "JPEG", progressive=True)
    bomb = with_more_scans(stream.getvalue(), 20_000)
    start = time.process_time()
    for read in (decode_image, encoded_size):
        with pytest.raises(InputError, match=f"expected at most {MAX_SCANS} scans; got 200"):
            read(bomb, max_pixels=100_000_000)
    assert time.process_time() - start < 2


def test_a_jpeg_in_a_tiff_counts_its_scans_too():
    strips = {"compression": "jpeg", "tiffinfo": {278: 8}}
    whole = encoded("TIFF", **strips)
    assert whole.count(b"\xff\xda") >= 8
    assert decode_image(whole, max_pixels=10_000).shape == PIXELS.shape
    with pytest.raises(InputError, match="scans"):
        decode_image(whole + 1000 * b"\xff\xda", max_pixels=10_000)


@pytest.mark.parametrize(("width", "height"), [(32_768, 32_768), (46_336, 46_336), (2**31, 16), (2**32 - 1, 2**32 - 1)])
def test_a_tiff_whose_tiles_are_far_larger_than_the_picture_is_refused(width, height):
    """libtiff would make room for a whole tile: of 151 bytes, gigabytes."""
    with pytest.raises(InputError, match=r"expected tiles of at most \d+ pixels"):
        decode_image(tiled(width, height), max_pixels=10_000)


def test_a_tile_may_be_larger_than_a_small_picture():
    assert decode_image(tiled(16, 16), max_pixels=10_000).shape == (16, 16, 3)
    data = zlib.compress(bytes(1024 * 1024))
    wide = tiff({322: 1024, 323: 1024, 324: -1, 325: len(data)}, data)
    assert decode_image(wide, max_pixels=10_000).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "tags", [{322: 0, 323: 16, 324: -1, 325: 9}, {322: 16, 324: -1, 325: 9}, {278: 0, 273: -1, 279: 9}]
)
def test_a_tiff_with_pieces_of_no_size_is_refused(tags):
    with pytest.raises(InputError):
        decode_image(tiff(tags, zlib.compress(bytes(256))), max_pixels=10_000)


def png_of_chunks(count: int) -> bytes:
    whole = encoded("PNG")
    empty = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    return whole[:33] + count * empty + whole[33:]


HEADERS = {
    "PNG chunks": (png_of_chunks(50), png_of_chunks(MAX_PIECES)),
    "PPM comment": (b"P6 # short\n1 1 255\nabc", b"P6 #" + bytes(2 * MAX_PIECES) + b"\n1 1 255\nabc"),
}


@pytest.mark.parametrize(("few", "many"), HEADERS.values(), ids=HEADERS)
def test_a_header_of_endless_pieces_is_given_up(few, many):
    assert decode_image(few, max_pixels=10_000).shape[2] == 3
    with pytest.raises(InputError, match="cut short or damaged"):
        decode_image(many, max_pixels=10_000)


def test_a_large_picture_in_small_pieces_is_read(monkeypatch):
    monkeypatch.setattr("tis_ray.formats.image_guards.MAX_PIECES", 10)
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    whole = stream.getvalue()
    start, size = whole.index(b"IDAT") + 4, 0
    data = b""
    while whole[start - 4 : start] == b"IDAT":
        (size,) = struct.unpack(">I", whole[start - 8 : start - 4])
        data += whole[start : start + size]
        start += size + 12
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    chunks = [
        struct.pack(">I", len(one)) + b"IDAT" + one + struct.pack(">I", zlib.crc32(b"IDAT" + one)) for one in pieces
    ]
    head = whole[: whole.index(b"IDAT") - 4]
    many = head + b"".join(chunks) + whole[-12:]
    assert len(pieces) > 500
    np.testing.assert_array_equal(decode_image(many, max_pixels=None), pixels)


def test_text_in_a_png_is_not_unpacked_without_end():
    """64 MB of zeros are some 64 KB there."""
    text = b"Comment\0\0" + zlib.compress(bytes(2**26), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    whole = encoded("PNG")
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            decode_image(whole[:33] + 200 * chunk + whole[33:], max_pixels=10_000)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_many_pictures_the_first_alone_is_decoded(kind):
    stream = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), (value, 0, 0)) for value in (10, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], **options)
    image = decode_image(stream.getvalue(), max_pixels=30 * 40)
    assert image.shape == (30, 40, 3)
    assert abs(int(image[0, 0, 0]) - 10) <= 4


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\x00\x01", b"\x00\x00\x00\x20ftypavif", b"\x8aMNG", b"SIMPLE  ="]
)
def test_readers_that_nobody_needs_are_never_reached(start):
    with pytest.raises(InputError, match="expected one of JPEG, PNG, WebP, TIFF, JPEG 2000, BMP, GIF, PPM"):
        decode_image(start + bytes(2000), max_pixels=10_000)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 200, 201])
def test_pairs_of_bytes_are_counted_wherever_they_begin(length):
    data = np.random.default_rng(length).choice([0xFF, 0xDA, 0], length).astype(np.uint8).tobytes()
    assert image_guards._count(data, b"\xff\xda") == data.count(b"\xff\xda")
