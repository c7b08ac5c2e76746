"""Opening image files: uint8 RGB arrays from JPEG, PNG, WebP, TIFF, JPEG 2000, BMP, GIF and PPM.

EXIF orientation is ignored: the boxes and masks of a data set refer to the pixels as they are stored.

Pillow's readers are used one by one rather than through `Image.open`, whose limit on pixels and whose set of
readers (PostScript among them) belong to the whole process. The limit here belongs to the call.
"""

import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tis_ray.errors import DataError, InputError
from tis_ray.formats import image_guards, locations

RgbImage = NDArray[np.uint8]  # (H, W, 3)

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WebP": (b"RIFF",),
    "TIFF": (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b"),
    "JPEG 2000": (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n"),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
}
_SIGNATURE_BYTES = 12
_BAND_BYTES = 1 << 18  # few enough for a processor's cache, and for the heap to use them again
# What Pillow's readers raise for damaged files, by its own handling of them and by trial.
READER_FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
    Warning,  # where the process turns warnings into errors
)
_WARNING_READERS = ("TIFF", "GIF")  # of odd tags, private ones among them, and of frames beyond the canvas


_warnings_lock = threading.Lock()  # warning filters belong to the process


class PixelLimitError(InputError):
    """An image has more pixels than the caller allows."""


def open_image(path: Path) -> RgbImage:
    """The image of a file, uint8 (H, W, 3) RGB, of any number of pixels.

    Grey, palette, 16-bit (its high byte) and CMYK images are converted, an alpha channel is dropped, of an
    animation the first frame is taken. Raises `DataError` naming the file where it is missing, cut short or not
    an image.
    """
    return image_of(path, locations.read_bytes(path, what="image "))


def image_of(path: Path, data: bytes) -> RgbImage:
    """The image of a file at `path` that holds `data`, as `open_image` has it."""
    try:
        return decode_image(data, max_pixels=None)
    except InputError as error:
        raise DataError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says of itself; `orientation` is EXIF's, 1 where pixels are stored as they are to be seen."""

    kind: str
    height: int
    width: int
    orientation: int


def read_header(path: Path) -> Header:
    """The header of an image file; no pixel is decoded, so one that is cut short has a size too.

    Raises `DataError` naming the file where it is missing or not an image.
    """
    with locations.opened(path, what="image ") as file:
        return header_of(path, file)


def header_of(path: Path, file: IO[bytes]) -> Header:
    """The header of `file`, which is the one at `path`, as `read_header` has it."""
    try:
        file.seek(0)
        kind = _kind_of(file.read(_SIGNATURE_BYTES))
        file.seek(0)
        if kind not in _WARNING_READERS:
            return _header(kind, file)
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _header(kind, file)
    except InputError as error:
        raise DataError(f"{path}: {error}") from None
    except READER_FAILURES as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its header is damaged"
        raise DataError(f"{path}: image cannot be read ({reason})") from None


def _header(kind: str, file: IO[bytes]) -> Header:
    image = _READERS[kind](file, "")
    width, height = image.size
    exif = Image.Exif()
    with suppress(*READER_FAILURES):  # what is said there in no known form says nothing
        exif.load(image.info.get("exif") or b"")
    return Header(kind, height, width, exif.get(ExifTags.Base.Orientation, 1))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a file's image, from its header alone: see `read_header`."""
    header = read_header(path)
    return header.height, header.width


def decode_image(data: bytes, *, max_pixels: int | None) -> RgbImage:
    """The image in `data`, uint8 (H, W, 3) RGB; conversions as for `open_image`.

    `max_pixels` is compared with the header's width x height before any pixel is decoded: `PixelLimitError`.
    An image that is cut short or damaged, one that is made to take long (see `image_guards`), and bytes that are no
    image, raise `InputError`.
    """
    return _quietly(_decode, data, max_pixels)


def encoded_size(data: bytes, *, max_pixels: int | None) -> tuple[int, int]:
    """Height and width of the image in `data`, by its header alone. Raises what `decode_image` raises for headers."""
    return _quietly(_size, data, max_pixels)


_Read = TypeVar("_Read")


def _quietly(read: Callable[[str, bytes, int | None], _Read], data: bytes, max_pixels: int | None) -> _Read:
    kind = _kind_of(data)
    if kind not in _WARNING_READERS:
        return read(kind, data, max_pixels)
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(kind, data, max_pixels)


def _size(kind: str, data: bytes, max_pixels: int | None) -> tuple[int, int]:
    width, height = _opened(kind, data, max_pixels).size
    return height, width


def _opened(kind: str, data: bytes, max_pixels: int | None) -> ImageFile.ImageFile:
    try:
        image = _READERS[kind](image_guards.PatientFile(data), "")
    except Image.DecompressionBombError:  # the WebP reader alone knows Pillow's own limit
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        allowed = limit if max_pixels is None else min(limit, max_pixels)
        raise PixelLimitError(f"image: expected at most {allowed} pixels; got a WebP of more than {limit}") from None
    except READER_FAILURES:
        raise InputError(f"image: expected a whole {kind} image; got {len(data)} bytes cut short or damaged") from None
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise PixelLimitError(f"image: expected at most {max_pixels} pixels; got {width} x {height} = {width * height}")
    image_guards.check(image, data)
    return image


def _decode(kind: str, data: bytes, max_pixels: int | None) -> RgbImage:
    image = _opened(kind, data, max_pixels)
    width, height = image.size
    try:
        return _to_rgb(image)
    except InputError:
        raise
    except READER_FAILURES:
        raise InputError(
            f"image: expected a whole {kind} image of {width} x {height}; got {len(data)} bytes cut short or damaged"
        ) from None


def _kind_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures) and (kind != "WebP" or data[8:12] == b"WEBP"):
            return kind
    found = "other bytes" if data else "no bytes"
    raise InputError(f"image: expected one of {', '.join(_READERS)}; got {found}")


def _to_rgb(image: ImageFile.ImageFile) -> RgbImage:
    image.load()
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        grey = ((deep if deep.itemsize == 2 else np.clip(deep, 0, 65535)) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError("image: expected 8 or 16 bits per channel; got floating-point pixels")
    image.info.pop("transparency", None)  # else Pillow warns that it is lost, which is what is wanted here
    return _pixels_of(image if image.mode == "RGB" else image.convert("RGB"))


def _pixels_of(image: Image.Image) -> RgbImage:
    """The pixels of an RGB image, some rows at a time: for all at once Pillow makes a string of them in between, which
    is as much memory again, and new memory takes the system about as long to provide as the copying takes."""
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _BAND_BYTES // (3 * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels
