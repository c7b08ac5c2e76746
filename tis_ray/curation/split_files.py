"""Splitting a data set in two: COCO and LVIS files into two of the same form, WAD's label images into lists of frames.

COCO files are read from front to back, twice: memory follows the images, not the masks. Every entry is written as it
was read.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tis_ray import whole_files
from tis_ray.curation.split import choose
from tis_ray.curation.videos import videos_of_entries, videos_of_frames
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats import wad
from tis_ray.formats.json_stream import JsonStream
from tis_ray.formats.locations import absolute
from tis_ray.results.progress import Progress, silent
from tis_ray.whole_files import replacing

PARTS = ("train", "val")
WAYS = ("image", "video")


@dataclass(frozen=True, slots=True)
class Part:
    """What one of the two parts holds, and its file. `videos` is None where nobody asked for them."""

    path: Path
    images: int
    objects: int
    classes: int
    videos: int | None


@dataclass(frozen=True, slots=True)
class _Split:
    """Of each image, by its id or name, the part that it is in."""

    part_of: Mapping[Any, str]
    videos: Mapping[str, int] | None


def split_coco(
    source: Path,
    out: Path,
    *,
    share: float,
    by: str,
    pattern: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Part, Part]:
    """Write `train.json` and `val.json` of a COCO or LVIS file to the folder `out`; see `choose` for who goes where.

    Raises `DataError` for a file that is not of that form, `ConfigError` where its images cannot be parted so.
    """
    _check(by, share, pattern)
    images, classes = _survey(source, progress)
    videos = videos_of_entries(source, list(images.values()), pattern=pattern) if by == "video" else None
    split = _parted(list(images), videos, [classes.get(id_, []) for id_ in images], share, seed)
    out.mkdir(parents=True, exist_ok=True)
    paths = {part: out / f"{part}.json" for part in PARTS}
    _check_kept([source], paths)
    with ExitStack() as stack:
        partials = {part: stack.enter_context(replacing(path)) for part, path in paths.items()}
        files = {part: stack.enter_context(one.open("w", encoding="utf-8")) for part, one in partials.items()}
        _copy(source, files, split.part_of, progress)
    return _parts(paths, split, classes)


def split_wad(
    labels: Path,
    out: Path,
    *,
    share: float,
    by: str,
    frames: Sequence[Path] = (),
    pattern: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Part, Part]:
    """Write `train.txt` and `val.txt`, lists of frames, of a folder of WAD's label images to the folder `out`.

    frames: lists of the data set, each a video; by default videos follow from the names
    Raises `DataError` for broken label images, `ConfigError` where they cannot be parted so.
    """
    _check(by, share, pattern)
    truth = wad.read(labels, labels, frames=frames)
    names = [record.path.stem for record in truth.images]
    videos = videos_of_frames(names, frames, pattern=pattern) if by == "video" else None
    classes: dict[Any, list[int]] = {}
    for record, name in zip(progress(truth.images, "reading labels", len(truth), "images"), names, strict=True):
        objects = truth.annotations(record.id)
        classes[name] = objects.labels[~objects.crowd].tolist()
    split = _parted(names, videos, [classes[name] for name in names], share, seed)
    out.mkdir(parents=True, exist_ok=True)
    paths = {part: out / f"{part}.txt" for part in PARTS}
    _check_kept(frames, paths)
    for part, path in paths.items():
        whole_files.write(path, "".join(f"{name}.jpg\n" for name in names if split.part_of[name] == part))
    return _parts(paths, split, classes)


def _check(by: str, share: float, pattern: str | None) -> None:
    if by not in WAYS:
        raise ConfigError(f"--by: expected {' or '.join(WAYS)}; got '{by}'")
    if not 0 < share < 1:
        raise ConfigError(f"--val: expected a share between 0 and 1; got {share:g}")
    if pattern is not None and by != "video":
        raise ConfigError(f"--video-pattern: expected --by video beside it; got --by {by}")


def _check_kept(sources: Sequence[Path], paths: Mapping[str, Path]) -> None:
    """Raise `ConfigError` where what is read would be written over."""
    written = {path.resolve() for path in paths.values()}
    for source in sources:
        if absolute(source) in written:
            raise ConfigError(f"--out: expected another folder than that of {source}, which would be overwritten")


def _parted(
    keys: Sequence[Any], videos: Sequence[str] | None, classes: Sequence[Sequence[int]], share: float, seed: int
) -> _Split:
    groups = [str(key) for key in keys] if videos is None else videos
    chosen = choose(groups, classes, share=share, seed=seed)
    part_of = {key: PARTS[group in chosen] for key, group in zip(keys, groups, strict=True)}
    if videos is None:
        return _Split(part_of, None)
    return _Split(part_of, {PARTS[0]: len(set(groups) - chosen), PARTS[1]: len(chosen)})


def _parts(paths: Mapping[str, Path], split: _Split, classes: Mapping[Any, Sequence[int]]) -> tuple[Part, Part]:
    images = Counter(split.part_of.values())
    objects: dict[str, list[int]] = {part: [] for part in PARTS}
    for key, part in split.part_of.items():
        objects[part] += classes.get(key, [])
    train, val = (
        Part(paths[part], images[part], len(objects[part]), len(set(objects[part])),
             None if split.videos is None else split.videos[part])
        for part in PARTS
    )  # fmt: skip
    return train, val


def _survey(source: Path, progress: Progress) -> tuple[dict[int, dict[str, Any]], dict[int, list[int]]]:
    """By image id the entries of `images` and the categories of the objects, crowds left out."""
    images: dict[int, dict[str, Any]] = {}
    classes: dict[int, list[int]] = {}
    annotated: set[int] = set()

    def image(entry: Any) -> None:
        if not isinstance(entry, dict) or type(entry.get("id")) is not int:
            raise DataError(f"{source}: images[{len(images)}]: expected an object with a whole number as id")
        if entry["id"] in images:
            raise DataError(f"{source}: images: expected each id once; got {entry['id']} twice")
        images[entry["id"]] = {key: entry[key] for key in ("file_name", "video_id") if key in entry}

    def annotation(entry: Any) -> None:
        if not isinstance(entry, dict) or not all(type(entry.get(key)) is int for key in ("image_id", "category_id")):
            raise DataError(f"{source}: annotations: expected objects with image_id and category_id; got {entry!r:.80}")
        annotated.add(entry["image_id"])
        if not entry.get("iscrowd", 0):
            classes.setdefault(entry["image_id"], []).append(entry["category_id"])

    _walk(source, {"images": image, "annotations": annotation}, progress, "reading")
    lost = sorted(annotated - images.keys())
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise DataError(f"{source}: annotations: expected image ids among images; got {lost[0]}{more}")
    return images, classes


def _walk(source: Path, take: Mapping[str, Callable[[Any], None]], progress: Progress, doing: str) -> None:
    seen: set[str] = set()
    with JsonStream(source) as stream:
        if stream.peek() != "{":
            raise DataError(f"{source}: expected an object with {', '.join(take)}; got something else")
        for key in stream.members():
            if key not in take:
                stream.skip()
                continue
            seen.add(key)
            if stream.peek() != "[":
                raise DataError(f"{source}: {key}: expected a list; got {stream.value()!r:.80}")
            for entry in progress(stream.items(), f"{doing} {key}", None, key):
                take[key](entry)
        stream.end()
    for key in take:
        if key not in seen:
            raise DataError(f"{source}: {key}: expected a list; got no such key")


def _copy(source: Path, files: Mapping[str, IO[str]], part_of: Mapping[int, str], progress: Progress) -> None:
    """Write every key to both files as it is, but `images` and `annotations`, whose entries go to one of them."""
    for file in files.values():
        file.write("{")
    with JsonStream(source) as stream:
        for position, key in enumerate(stream.members()):
            for file in files.values():
                file.write(f"{', ' if position else ''}{json.dumps(key)}: ")
            if key in ("images", "annotations"):
                own = "id" if key == "images" else "image_id"
                _deal(progress(stream.items(), f"writing {key}", None, key), files, lambda one: part_of[one[own]])  # noqa: B023
            else:
                text = json.dumps(stream.value(), ensure_ascii=False)
                for file in files.values():
                    file.write(text)
    for file in files.values():
        file.write("}\n")


def _deal(entries: Iterator[Any], files: Mapping[str, IO[str]], part_of: Callable[[Any], str]) -> None:
    begun = dict.fromkeys(files, False)
    for file in files.values():
        file.write("[")
    for entry in entries:
        part = part_of(entry)
        files[part].write((",\n" if begun[part] else "\n") + json.dumps(entry, ensure_ascii=False))
        begun[part] = True
    for file in files.values():
        file.write("\n]")
