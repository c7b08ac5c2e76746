"""Which images a batch run looks at: a folder, a text file with one path a line, or a COCO JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tis_ray.errors import DataError
from tis_ray.formats import coco

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".jp2", ".bmp", ".gif", ".ppm"})


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image to look at. The file may turn out to be missing; `size_hw` is what a JSON says of it, if any."""

    id: int
    file_name: str
    path: Path
    size_hw: tuple[int, int] | None = None


def read_image_list(source: Path | str, images: Path | str | None = None) -> list[ListedImage]:
    """The images of `source`, in the order of their ids.

    A folder yields its image files sorted by name, sub-folders included, numbered from 1; a `.txt` file its lines,
    relative to the file's folder, numbered from 1; a `.json` file COCO's own ids, with `images` as in `coco.read`.
    Raises `DataError` where there is nothing to look at or an image is listed twice.
    """
    source = Path(source)
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if _is_image(path))
        return _numbered(source, found, source)
    if source.suffix.lower() == ".json":
        records = coco.read(source, images, annotated=False).images
        _check_listed(source, [one.path for one in records])
        return [ListedImage(one.id, one.file_name, one.path, (one.height, one.width)) for one in records]
    if source.suffix.lower() == ".txt":
        return _numbered(source, _listed_paths(source), source.parent)
    kind = "there is no such file or folder" if not source.exists() else f"a file with suffix '{source.suffix}'"
    raise DataError(f"images: expected a folder, a .txt list or a COCO .json; got {source} ({kind})")


def _listed_paths(source: Path) -> list[Path]:
    try:
        lines = source.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: expected a text file with one image path a line; got {error}") from None
    return [source.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _numbered(source: Path, paths: Sequence[Path], root: Path) -> list[ListedImage]:
    _check_listed(source, paths)
    return [ListedImage(i, _name(path, root), path) for i, path in enumerate(paths, start=1)]


def _check_listed(source: Path, paths: Sequence[Path]) -> None:
    if not paths:
        raise DataError(f"{source}: expected at least one image ({', '.join(sorted(SUFFIXES))}); found none")
    path, count = Counter(paths).most_common(1)[0]
    if count > 1:
        raise DataError(f"{source}: expected each image once; got {path} more than once")


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
