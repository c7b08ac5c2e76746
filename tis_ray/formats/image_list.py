"""Which images a batch run looks at: a folder, a text or Parquet file that lists them, a COCO JSON; here or by URL."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tis_ray.errors import DataError
from tis_ray.formats import coco, image_table, locations
from tis_ray.formats.bad_entries import BadEntries

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".jp2", ".bmp", ".gif", ".ppm"})


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image to look at. The file may turn out to be missing; `size_hw` is what its list says of it, if anything."""

    id: int
    file_name: str
    path: Path
    size_hw: tuple[int, int] | None = None


def read_image_list(
    source: Path | str,
    images: Path | str | None = None,
    *,
    bad: BadEntries | None = None,
    present: bool = False,
    excused: Collection[str] = (),
) -> list[ListedImage]:
    """The images of `source`, in the order of their ids; where it or they lie behind URLs, paths are `UPath`s.

    A folder yields its image files sorted by name, sub-folders included, numbered from 1. A `.txt` file has a path or
    URL a line, a `.parquet` file the columns of `image_table`; what they name is relative to `images`, by default the
    file's folder, and numbered from 1 where the table has no ids. A `.json` file has COCO's own ids, with `images` as
    in `coco.read`.

    Images that are listed twice and, where they are to be `present`, those without a file, unless their names are
    `excused`, are counted in `bad`, and left out where it skips them, the second of two; else `DataError` names and
    counts them. It is raised too where there is nothing to look at.
    """
    source, bad = locations.place(source), BadEntries() if bad is None else bad
    listed = _listed(source, None if images is None else locations.place(images))
    if not listed:
        raise DataError(f"{source}: expected at least one image ({', '.join(sorted(SUFFIXES))}); found none")
    kept = _once(source, listed, bad)
    if present:
        missing = set(locations.missing_files([one.path for one in kept if one.file_name not in excused]))
        for path in dict.fromkeys(one.path for one in kept if one.path in missing):
            bad.add(source, "missing", f"expected a file; there is no {path}")
        kept = [one for one in kept if one.path not in missing]
    bad.check(source, "images")
    if not kept:
        raise DataError(f"expected at least one image that is there; {bad.told('images')}")
    return kept


def _listed(source: Path, images: Path | None) -> list[ListedImage]:
    suffix = source.suffix.lower()
    if suffix == ".json":
        records = coco.read(source, images, annotated=False).images
        return [ListedImage(one.id, one.file_name, one.path, (one.height, one.width)) for one in records]
    folder = source.parent if images is None else images
    if suffix == ".txt":
        return _numbered([_below(folder, line) for line in _lines(source)], folder)
    if suffix == ".parquet":
        rows = image_table.read(source)
        paths = [_below(folder, row.path) for row in rows]
        return [
            ListedImage(row.id, row.file_name or _name(path, folder), path, row.size_hw)
            for row, path in zip(rows, paths, strict=True)
        ]
    if locations.is_dir(source):
        if images is not None:
            raise DataError(f"images: expected no folder of images beside the folder {source}; got {images}")
        found = [path for path in locations.files_below(source) if _is_image(path)]
        return _numbered(sorted(found), source)
    there = locations.is_file(source)
    kind = f"a file with suffix '{source.suffix}'" if there else "there is no such file or folder"
    raise DataError(f"images: expected a folder, a .txt or .parquet list or a COCO .json; got {source} ({kind})")


def _lines(source: Path) -> list[str]:
    try:
        lines = locations.read_bytes(source).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: expected a text file with one image path a line; got {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _below(folder: Path, name: str) -> Path:
    return locations.place(name) if "://" in name else folder / name


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _numbered(paths: Sequence[Path], root: Path) -> list[ListedImage]:
    return [ListedImage(i, _name(path, root), path) for i, path in enumerate(paths, start=1)]


def _once(source: Path, listed: Sequence[ListedImage], bad: BadEntries) -> list[ListedImage]:
    kept: dict[str, ListedImage] = {}
    for one in listed:
        key = str(one.path) if locations.is_remote(one.path) else os.path.normpath(one.path.absolute())  # without `..`
        if key in kept:
            bad.add(source, "doubles", f"expected each image once; got {one.path} more than once")
        else:
            kept[key] = one
    return list(kept.values())


def _name(path: Path, root: Path) -> str:
    name, folder = str(path), str(root).rstrip("/") + "/"
    return name.removeprefix(folder) if name.startswith(folder) else name
