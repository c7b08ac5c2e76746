"""Which images `tis-ray segment` asks about: files, folders and globs, and how many other files lay among them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tis_ray.errors import InputError
from tis_ray.formats.image_list import SUFFIXES

_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class PickedImage:
    """An image's path, and what it is called below the folder in which it was found."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Picked:
    """Images, each once, and how many other files a folder or a glob held."""

    images: tuple[PickedImage, ...]
    num_others: int


def pick_images(sources: Sequence[Path | str], *, recursive: bool = False) -> Picked:
    """The images of `sources`, in their order, those of a folder and of a glob by name.

    A file that is named is taken whatever its name; of a folder and of what a glob matches, what is called like an
    image and not hidden. `recursive` also takes the folders in folders; `**` in a glob needs no such word. A name that
    exists is no glob. Raises `InputError` for a source that is nowhere, and where no image is found.
    """
    found: dict[str, str] = {}
    num_others = 0
    for source in map(Path, sources):
        if source.is_file():
            found.setdefault(str(source), source.name)
            continue
        root, paths = _spread(source, recursive)
        for path in sorted(paths):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                found.setdefault(str(path), str(path.relative_to(root)))
            else:
                num_others += 1
    if not found:
        raise InputError(
            f"images: expected at least one image ({', '.join(sorted(SUFFIXES))}); found none and {num_others} other "
            f"files in {', '.join(map(str, sources))}"
        )
    return Picked(tuple(PickedImage(path, name) for path, name in found.items()), num_others)


def _spread(source: Path, recursive: bool) -> tuple[Path, Iterable[Path]]:
    """The files of a folder or a glob, and the folder that they have in common."""
    if source.is_dir():
        return source, _files(source, recursive)
    if not any(_MAGIC & set(part) for part in source.parts):
        raise InputError(f"images: expected files, folders or globs; got {source} (there is nothing of that name)")
    fixed = next(i for i, part in enumerate(source.parts) if _MAGIC & set(part))
    root = Path(*source.parts[:fixed])
    try:
        matched = list(root.glob(str(Path(*source.parts[fixed:]))))
    except ValueError as error:
        raise InputError(f"images: expected a glob; got {source} ({error})") from None
    if not matched:
        raise InputError(f"images: expected a glob that matches something; got {source}")
    return root, {file for path in matched for file in _files(path, recursive)}


def _files(path: Path, recursive: bool) -> Iterator[Path]:
    """The path itself where it is a file; of a folder its files, with `recursive` those of its folders, too."""
    if path.is_dir():
        yield from (file for file in (path.rglob("*") if recursive else path.iterdir()) if file.is_file())
    else:
        yield path
