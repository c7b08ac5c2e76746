"""What a client may be given as an image, and the bytes that it sends of it."""

import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError

# A file, the bytes of one, or pixels: uint8 RGB (H, W, 3).
Picture: TypeAlias = Path | str | bytes | NDArray[np.uint8]

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


def encode(image: Picture) -> tuple[bytes, str]:
    """The bytes to send and their media type; pixels become a PNG. Raises `InputError`."""
    if isinstance(image, bytes):
        return image, "image/*"
    if isinstance(image, np.ndarray):
        return _png(image), "image/png"
    path = Path(image)
    try:
        return path.read_bytes(), _TYPES.get(path.suffix.lower(), "image/*")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"image: expected a readable file; got {path} ({reason})") from None


def pixels_of(image: Picture) -> NDArray[np.uint8]:
    """The pixels, uint8 RGB (H, W, 3), as the service sees them. Raises `InputError` or, for a file, `DataError`."""
    from tis_ray.formats.images import decode_image, open_image

    if isinstance(image, np.ndarray):
        return _checked(image)
    return decode_image(image, max_pixels=None) if isinstance(image, bytes) else open_image(Path(image))


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(_checked(image)).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image: expected a uint8 array (H, W, 3); got {image.dtype} {image.shape}")
    return image
