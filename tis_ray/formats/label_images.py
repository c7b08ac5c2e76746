"""Label images: PNG files of one 16-bit channel, each pixel a number."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from tis_ray.errors import DataError
from tis_ray.formats.images import READER_FAILURES

LabelMap = NDArray[np.uint16]  # (H, W)
EXPECTED = "a label image, a PNG of one 16-bit channel"


def label_image_size(path: Path) -> tuple[int, int]:
    """Height and width by the header alone. Raises `DataError` naming the file, as `open_label_image` does."""
    with _open(path) as image:
        return image.height, image.width


def open_label_image(path: Path) -> LabelMap:
    """The numbers of a label image. Raises `DataError` where the file is missing, broken or not 16-bit grey."""
    with _open(path) as image:
        try:
            return np.array(image, dtype=np.uint16)
        except READER_FAILURES:
            raise DataError(f"{path}: label image is cut short or damaged") from None


def _open(path: Path) -> PngImageFile:
    try:
        image = PngImageFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such label image") from None
    except READER_FAILURES:
        raise DataError(f"{path}: expected {EXPECTED}; got another or a damaged file") from None
    if image.mode != "I;16":
        found = f"{image.mode} of {image.width}x{image.height}"
        image.close()
        raise DataError(f"{path}: expected {EXPECTED}; got {found}")
    return image
