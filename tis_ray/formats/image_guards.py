"""What keeps a crafted image from taking more time or memory than its pixels are worth.

Pillow and the libraries below it count neither the scans of a JPEG, each of which goes over the whole picture, nor the
pieces that a header consists of, nor do they hold the tiles of a TIFF against the picture that they are to fill.
"""

import io
import math

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from tis_ray.errors import InputError

MAX_SCANS = 256  # encoders write one, or some ten of a progressive picture
MAX_PIECES = 50_000  # and one for each KiB of the file: large pictures lie in pieces of some KiB
MAX_TILE_PIXELS = 4096 * 4096
_SCANS_PER_PIECE = 4  # of a JPEG inside a TIFF: one for each channel
_START_OF_SCAN = b"\xff\xda"


class PatientFile(io.BytesIO):
    """A file in memory that loses its patience: after so many reads as no honest file needs, all raise `OSError`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = MAX_PIECES + len(data) // 1024

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("too many pieces")
        return super().read(size)


def check(image: ImageFile.ImageFile, data: bytes) -> None:
    """Raise `InputError` where decoding the opened `image` of the file `data` would take unreasonably long or much."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        pieces = _check_tiles(image)
        if "jpeg" in image.info.get("compression", ""):
            _check_scans(data, MAX_SCANS + _SCANS_PER_PIECE * pieces)
    elif image.format == "JPEG" or image.format == "MPO":
        _check_scans(data, MAX_SCANS)


def _check_scans(data: bytes, limit: int) -> None:
    scans = _count(data, _START_OF_SCAN)
    if scans > limit:
        raise InputError(f"image: expected at most {limit} scans; got {scans}")


def _count(data: bytes, pair: bytes) -> int:
    """How often two bytes follow each other: ten times as fast as `bytes.count` in a JPEG."""
    sought = np.frombuffer(pair, "<u2")[0]
    pairs = (np.frombuffer(data, "<u2", count=max(len(data) - start, 0) // 2, offset=start) for start in (0, 1) if data)
    return sum(int(np.count_nonzero(one == sought)) for one in pairs)


def _check_tiles(image: TiffImagePlugin.TiffImageFile) -> int:
    """In how many strips or tiles the picture is stored."""
    width, height = image.size
    if TiffImagePlugin.TILEWIDTH not in image.tag_v2:
        return math.ceil(height / _size(image, TiffImagePlugin.ROWSPERSTRIP, height))
    tile_width, tile_height = (_size(image, tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    if tile_width * tile_height > max(MAX_TILE_PIXELS, width * height):
        raise InputError(f"image: expected tiles of at most {MAX_TILE_PIXELS} pixels; got {tile_width} x {tile_height}")
    return math.ceil(width / tile_width) * math.ceil(height / tile_height)


def _size(image: TiffImagePlugin.TiffImageFile, tag: int, default: int) -> int:
    value = image.tag_v2.get(tag, default)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"image: expected a positive whole number as TIFF tag {tag}; got {value}")
    return value
