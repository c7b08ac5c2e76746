"""Opening a data set whatever is wrong with it: what training would refuse is left out and told, one by one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tis_ray.curation.problems import Problem
from tis_ray.errors import DataError
from tis_ray.formats import coco, wad
from tis_ray.formats.coco_checks import check_annotations, check_federated, check_images, shown
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.json_file import load_json
from tis_ray.formats.locations import is_remote

_LISTS = ("images", "annotations", "categories")
_CHUNK = 4096  # entries checked at a time


def open_leniently(
    source: Path, images: Path | None = None, *, frames: Sequence[Path] = (), rider: bool = False
) -> tuple[GroundTruth, list[Problem]]:
    """What can be used of the data set at `source`, a COCO or LVIS JSON, perhaps behind a URL, or a folder of WAD's
    label images.

    images: the folder of the pictures; of a COCO JSON by default as `coco.read` finds it, of label images the folder
            `images` beside theirs, else their own
    Raises `DataError` where nothing can be made of it: a file that is no COCO JSON, classes that are wrong.
    """
    problems: list[Problem] = []
    if not is_remote(source) and source.is_dir():
        beside = source.parent / "images"
        folder = images or (beside if beside.is_dir() else source)

        def note(error: DataError) -> None:
            problems.append(Problem("label image", str(error)))

        return wad.read(source, folder, frames=frames, rider=rider, on_broken=note), problems
    content = load_json(source)
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _LISTS):
        content = content | _usable(source, content, problems)
    return coco.of_content(source, content, images), problems


def _usable(path: Path, content: Mapping[str, Any], problems: list[Problem]) -> dict[str, list[Any]]:
    """The entries of `images` and `annotations` that training takes."""
    ids = {entry["id"] for entry in content["categories"] if isinstance(entry, Mapping) and _is_id(entry.get("id"))}

    def check_some_images(entries: Sequence[Any]) -> None:
        named = [coco.named(entry) for entry in entries]
        check_images(path, named)
        check_federated(path, named, ids)

    images, refused = parted(_once(content["images"], problems, "image entry"), check_some_images)
    problems += [Problem("image entry", _short(path, text)) for text in refused]
    sizes_hw = {entry["id"]: (entry["height"], entry["width"]) for entry in images}

    def check_some_annotations(entries: Sequence[Any]) -> None:
        check_annotations(path, entries, sizes_hw, ids)

    annotations, refused = parted(_once(content["annotations"], problems, "annotation entry"), check_some_annotations)
    problems += [Problem("annotation entry", _short(path, text)) for text in refused]
    return {"images": images, "annotations": annotations}


def parted(entries: Iterable[Any], check: Callable[[Sequence[Any]], None]) -> tuple[list[Any], list[str]]:
    """The entries that `check` passes, in their order, and what it says of each of the others.

    `check` takes any number of entries and raises `DataError` where one of them is wrong: chunks are halved until it
    is found.
    """
    every = list(entries)
    good: list[Any] = []
    refused: list[str] = []

    def sort(chunk: Sequence[Any]) -> None:
        try:
            check(chunk)
        except DataError as error:
            if len(chunk) == 1:
                refused.append(str(error))
            else:
                sort(chunk[: len(chunk) // 2])
                sort(chunk[len(chunk) // 2 :])
        else:
            good.extend(chunk)

    for start in range(0, len(every), _CHUNK):
        sort(every[start : start + _CHUNK])
    return good, refused


def _once(entries: Sequence[Any], problems: list[Problem], kind: str) -> list[Any]:
    """The entries but those whose id was there before."""
    seen: set[Any] = set()
    kept = []
    for position, entry in enumerate(entries):
        identity = entry.get("id") if isinstance(entry, Mapping) else None
        if _is_id(identity) and identity in seen:
            problems.append(Problem(kind, f"[{position}]: id: expected each id once; got {shown(entry, 'id')} again"))
            continue
        seen.add(identity if _is_id(identity) else None)
        kept.append(entry)
    return kept


def _is_id(value: Any) -> bool:
    return type(value) is int


def _short(path: Path, text: str) -> str:
    return text.removeprefix(f"{path}: ")
