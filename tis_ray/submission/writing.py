"""The files of a batch run: results in one or several formats, and which images are not among them, or not in full."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tis_ray import menu
from tis_ray.errors import ConfigError
from tis_ray.formats.categories import class_map
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.json_file import write_json
from tis_ray.instances import Categories, Instances
from tis_ray.runs.records import ImageOutcome

FORMATS = "tis_ray.submission.formats"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch run wrote. `num_dropped` instances are not in the files: their classes are unknown there.

    num_instances, num_dropped: of the first format
    failed: images that are in no file, with their errors
    degraded: images that were answered without some views
    others: the files of the other formats, and how many instances are in them
    num_unseen: images of the run that it has not looked at yet
    """

    num_images: int
    num_instances: int
    failed: tuple[ImageOutcome, ...]
    failures_file: Path | None
    num_dropped: int = 0
    degraded: tuple[ListedImage, ...] = ()
    others: tuple[tuple[Path, int], ...] = ()
    num_unseen: int = 0


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """A file to write: where, in which format of the menu, with which of its options."""

    path: Path
    format: str = "coco"
    options: Mapping[str, Any] | None = None


def results_files(out: Path, formats: Sequence[str], *, disjoint: bool = False) -> tuple[ResultsFile, ...]:
    """The first format goes to `out`, every other one beside it with its own suffix.

    Raises `ConfigError` for an unknown or doubled format, files of one name, and `disjoint` where no format knows it.
    """
    files: list[ResultsFile] = []
    for name in formats:
        opener = menu.pick(FORMATS, "open_writer", name, key="--format")
        suffix = menu.pick(FORMATS, "SUFFIX", name, key="--format")
        options = {"disjoint": True} if disjoint and "disjoint" in signature(opener).parameters else {}
        path = out if not files else out.with_suffix(str(suffix))
        if path in [file.path for file in files]:
            raise ConfigError(f"--format: expected formats of different files; got {path} twice: {', '.join(formats)}")
        files.append(ResultsFile(path, name, options))
    if disjoint and not any(file.options for file in files):
        raise ConfigError(f"--disjoint: expected a format that knows it, as wad; got {', '.join(formats)}")
    return tuple(files)


def check_apart(files: Sequence[ResultsFile], *read: Path) -> None:
    """Raise `ConfigError` for a file that is one of those that are read, or lies in a folder that is."""
    for path in (file.path for file in files):
        if any(path.resolve().is_relative_to(one.resolve()) for one in read):
            raise ConfigError(f"--out: expected another file than those that are read; got {path}")


def rehearse(files: Sequence[ResultsFile], images: Sequence[ListedImage], categories: Categories) -> None:
    """Raise now what writing would raise after hours: names or classes that a format cannot express."""
    with TemporaryDirectory(prefix="tis-ray-") as folder:
        elsewhere = [ResultsFile(Path(folder) / str(i), file.format, file.options) for i, file in enumerate(files)]
        with _opened(elsewhere) as writers:
            for write in writers:
                for image in images:
                    write(Instances.empty(), image=image, categories=categories, size_hw=(1, 1))


def write_results(
    outcomes: Iterable[ImageOutcome],
    out: Path,
    *,
    categories: Categories,
    written: Categories | None = None,
    files: Sequence[ResultsFile] | None = None,
    note_failures: bool = True,
) -> Summary:
    """Stream what was found, labelled by `categories`, into `files`, by default COCO's results JSON at `out`.

    `written` is the data set's own table, where it is another: its ids are written, joined by name, and instances of
    classes that it lacks are left out. Files appear when they are whole; failed images are listed with their reasons
    in `<out>.failed.json`, and a file of that name from an earlier run goes, unless `note_failures` is false. Memory
    follows one image.
    """
    written = written or categories
    index_map = class_map(categories, written)
    files = files or [ResultsFile(out)]
    num_images = num_found = 0
    num_written = [0] * len(files)
    failed: list[ImageOutcome] = []
    degraded: list[ListedImage] = []
    with _opened(files) as writers:
        for one in outcomes:
            num_images += 1
            if one.status == "failed":
                failed.append(one)
                continue
            image = ListedImage(one.image_id, one.file_name, Path(one.file_name), one.size_hw)
            if one.status == "degraded":
                degraded.append(image)
            num_found += len(one.instances)
            instances = one.instances.relabelled(index_map)
            for i, write in enumerate(writers):
                num_written[i] += write(instances, image=image, categories=written, size_hw=one.size_hw)
        failures_file = _write_failures(out, failed) if note_failures else None
    num_instances, *numbers = num_written
    return Summary(
        num_images,
        num_instances,
        tuple(failed),
        failures_file,
        num_dropped=num_found - num_instances,
        degraded=tuple(degraded),
        others=tuple((file.path, number) for file, number in zip(files[1:], numbers, strict=True)),
    )


@contextmanager
def _opened(files: Sequence[ResultsFile]) -> Iterator[list[Callable[..., int]]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                menu.pick(FORMATS, "open_writer", file.format, key="--format")(file.path, **file.options or {})
            )
            for file in files
        ]


def _write_failures(out: Path, failed: Sequence[ImageOutcome]) -> Path | None:
    path = out.with_suffix(".failed.json")
    if not failed:
        path.unlink(missing_ok=True)
        return None
    write_json(
        path,
        [{"image_id": one.image_id, "file_name": one.file_name, "error": one.error} for one in failed],
        indented=True,
    )
    return path
