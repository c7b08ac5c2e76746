"""Maps of what every pixel shows, as COCO-stuff has them: one PNG for each image, of one 8-bit channel.

A pixel is the id of its category less one, that of a thing where there is one; 255 is unlabelled. Palettes, which are
there to be looked at, do not matter.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from tis_ray.errors import DataError
from tis_ray.formats import locations
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.images import READER_FAILURES

UNLABELLED = 255
StuffMap = NDArray[np.uint8]  # (H, W)
_EXPECTED = "a map of stuff, a PNG of one 8-bit channel"
# Grey values, or numbers in a palette, which may take fewer bits; grey ones of fewer Pillow spreads over 0..255.
_KINDS = ("L", "P", "P;1", "P;2", "P;4")


@dataclass(frozen=True, slots=True)
class StuffMaps:
    """The maps in `folder`, whose values are 0 to `num_classes` - 1 and 255."""

    folder: Path
    num_classes: int

    def path_of(self, record: ImageRecord) -> Path:
        """Where an image's map should be: under the image's own name with `.png`, with or without its folders."""
        within, plain = self._places(record)
        return within if within != plain and locations.is_file(within) else plain

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Raise `DataError` where not a single image has a map: the folder is another data set's."""
        places = [place for record in records for place in set(self._places(record))]
        if records and len(locations.missing_files(places)) == len(places):
            raise DataError(
                f"{self.folder}: expected maps of stuff named as the {len(records)} images are; there is none, "
                f"as {self.path_of(records[0]).name}"
            )

    def read(self, record: ImageRecord) -> StuffMap | None:
        """The map of an image, None where it has none.

        Raises `DataError` naming the file where it is damaged, of colours or of another size than its image, and for a
        value that is no class.
        """
        path = self.path_of(record)
        found = _open(path)
        if found is None:
            return None
        if found.shape != (record.height, record.width):
            raise DataError(
                f"{path}: expected {record.width}x{record.height} pixels as its image has; "
                f"got {found.shape[1]}x{found.shape[0]}"
            )
        wrong = (found >= self.num_classes) & (found != UNLABELLED)
        if wrong.any():
            raise DataError(
                f"{path}: expected values 0 to {self.num_classes - 1}, as detector.stuff.num_classes says, "
                f"or {UNLABELLED}; got {found[wrong].max()}"
            )
        return found

    def _places(self, record: ImageRecord) -> tuple[Path, Path]:
        name = PurePath(record.file_name).with_suffix(".png")
        plain = self.folder / name.name
        return (plain if name.is_absolute() else self.folder / name), plain


def _open(path: Path) -> StuffMap | None:
    if not locations.is_file(path):
        return None
    source = io.BytesIO(locations.read_bytes(path, what="map of stuff ")) if locations.is_remote(path) else path
    try:
        with PngImageFile(source) as image:
            kind = image.tile[0].args
            pixels = np.array(image)
    except READER_FAILURES:
        raise DataError(f"{path}: expected {_EXPECTED}; got another or a damaged file") from None
    if kind not in _KINDS:
        raise DataError(f"{path}: expected {_EXPECTED}; got {kind} of {pixels.shape[1]}x{pixels.shape[0]}")
    return pixels
