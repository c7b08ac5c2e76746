"""The CSV of the WAD 2018 challenge: image names without their suffix, masks as runs, no boxes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tis_ray.errors import DataError
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.wad_csv import WadWriter, image_id_of
from tis_ray.instances import Categories, Instances

SUFFIX = ".csv"


@contextmanager
def open_writer(path: Path, *, disjoint: bool = False) -> Iterator[Callable[..., int]]:
    """Instances of the challenge's classes, joined by name. With `disjoint` a pixel belongs to the best of them only.

    `write` raises `DataError` for two images whose names are the same in the file.
    """
    seen: set[str] = set()
    with WadWriter(path, disjoint=disjoint) as writer:

        def write(instances: Instances, *, image: ListedImage, categories: Categories, size_hw: tuple[int, int]) -> int:
            name = image_id_of(image.file_name)
            if name in seen:
                raise DataError(f"images: expected file names that differ without their folders; got twice: {name}")
            seen.add(name)
            before = writer.num_rows
            writer.write(instances, image=image.file_name, categories=categories, size_hw=size_hw)
            return writer.num_rows - before

        yield write
