"""Submissions to the WAD 2018 challenge: a CSV with one line for each instance, written as a stream and read back.

The columns are `ImageId,LabelId,PixelCount,Confidence,EncodedPixels`; the last holds the mask's runs in row-major
order as `start length|start length|`, starts counted from 0 over the whole image.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from tis_ray import whole_files
from tis_ray.errors import ConfigError, DataError, InputError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.wad_classes import EVALUATED, WITH_RIDER
from tis_ray.instances import Categories, Instances
from tis_ray.ops import rle as rle_ops
from tis_ray.ops import row_runs
from tis_ray.ops.rle import Rle
from tis_ray.ops.run_disjoint import disjoint
from tis_ray.ops.runs import Runs

HEADER = "ImageId,LabelId,PixelCount,Confidence,EncodedPixels"
_LABEL_IDS = dict(zip(EVALUATED.names, EVALUATED.ids, strict=True)) | {"motorcycle": 34}  # COCO's word for it


@dataclass(frozen=True, slots=True)
class WadRow:
    """One line of a submission: WAD's class id, the score in 0..1 and the mask."""

    label_id: int
    score: float
    rle: Rle


class WadWriter:
    """Writes a submission image by image; the file gets its name only when all went well.

    `with WadWriter(path) as writer: writer.write(...)`. After an exception nothing is left behind, and a file of
    that name from before stays as it was. The confidence is the mask's score. With `disjoint`, no pixel of an image
    belongs to two of its instances: the one of the higher score keeps it. `num_rows` and `num_dropped` count instances
    written and left out so far.
    """

    def __init__(self, path: Path | str, *, disjoint: bool = False) -> None:
        self.path = Path(path)
        self.disjoint = disjoint
        self.num_rows = self.num_dropped = 0
        self._partial = whole_files.partial_of(self.path)

    def __enter__(self) -> Self:
        try:
            self._file = self._partial.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._file.write(HEADER + "\n")
        return self

    def write(self, instances: Instances, *, image: str, categories: Categories, size_hw: tuple[int, int]) -> None:
        """Append the instances of one image of height and width `size_hw`, in their order.

        image:      the image's file name; its folder and a `.jpg` at its end are left out of the file
        categories: what the labels mean, joined by name with the challenge's classes

        Left out are classes that the challenge does not evaluate, rider among them, and instances without a mask or
        without a pixel in it. Raises `ConfigError` where no class is known, `InputError` where `masks` is None.
        """
        if instances.masks is None and len(instances):
            raise InputError(f"{image}: masks: expected one for each of {len(instances)} instances; got none")
        label_ids = _label_ids(categories)
        image_id = image_id_of(image)
        kept = instances[label_ids[instances.labels] >= 0]
        self.num_dropped += len(instances) - len(kept)
        runs = Runs.empty(*size_hw) if kept.masks is None else kept.masks.to_runs(*size_hw)
        scores = kept.mask_scores
        if self.disjoint:
            runs = disjoint(runs, np.argsort(-scores, kind="stable"))
        texts, areas = row_runs.to_texts(runs)
        for label, score, area, pixels in zip(kept.labels, scores.tolist(), areas.tolist(), texts, strict=True):
            if not area:
                self.num_dropped += 1
                continue
            self._file.write(f"{image_id},{label_ids[label]},{area},{score:.6f},{pixels}\n")
            self.num_rows += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                whole_files.replace(self._partial, self.path)
        finally:
            whole_files.remove(self._partial)


def read_csv(path: Path | str, *, size_hw: tuple[int, int]) -> dict[str, list[WadRow]]:
    """The lines of a submission by ImageId, both in the order of the file; all images are of height, width `size_hw`.

    As `stream_csv`, whose `DataError` it raises.
    """
    rows: dict[str, list[WadRow]] = {}
    for image_id, row in stream_csv(path, lambda _: size_hw):
        rows.setdefault(image_id, []).append(row)
    return rows


def stream_csv(
    path: Path | str, size_of: Callable[[str], tuple[int, int] | None], *, bad: BadEntries | None = None
) -> Iterator[tuple[str, WadRow]]:
    """The lines of a submission with their ImageIds, one at a time, in the order of the file.

    `size_of` says an image's height and width, None where there is no such image. A bar at the end of EncodedPixels
    may be missing. Wrong lines, of an unknown image or class, with a score outside 0..1, runs that overlap or leave the
    image, a PixelCount that is not the runs' sum, are counted in `bad` and left out where it skips them; else, at the
    end of the file, `DataError` names and counts them by line and field. A file without the header raises it at once.
    """
    path, bad = Path(path), BadEntries() if bad is None else bad
    try:
        with path.open(encoding="utf-8") as lines:
            header = lines.readline().rstrip("\r\n").removeprefix("\ufeff")
            if header != HEADER:
                raise DataError(f"{path}: line 1: expected {HEADER}; got {_short(header)}")
            for number, line in enumerate(lines, start=2):
                try:
                    found = _read_row(line.rstrip("\r\n"), size_of) if line.strip() else None
                except _WrongRowError as error:
                    bad.add(path, error.field, f"line {number}: {error}")
                else:
                    if found is not None:
                        yield found
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected a CSV of UTF-8 text; got other bytes") from None
    bad.check(path, "lines")


def _label_ids(categories: Categories) -> NDArray[np.int64]:
    """WAD's id of each class, -1 where the challenge does not evaluate it."""
    ids = np.array([_LABEL_IDS.get(name, -1) for name in categories.names], dtype=np.int64)
    if (ids < 0).all():
        raise ConfigError(
            f"categories: expected some of WAD's ({', '.join(EVALUATED.names)}); got {', '.join(categories.names)}"
        )
    return ids


def image_id_of(image: str) -> str:
    """The ImageId of a file name: without its folders and `.jpg`. `InputError` for a name that a CSV cannot hold."""
    name = image.replace("\\", "/").rpartition("/")[2].removesuffix(".jpg")
    if not name or any(mark in name for mark in ',"\r\n'):
        raise InputError(f"image: expected a file name without commas, quotes and line ends; got {image!r}")
    return name


class _WrongRowError(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _read_row(line: str, size_of: Callable[[str], tuple[int, int] | None]) -> tuple[str, WadRow]:
    def refuse(field: str, expected: str, got: str) -> NoReturn:
        raise _WrongRowError(field, f"{field}: expected {expected}; got {_short(got)}")

    fields = line.split(",")
    if len(fields) != 5:
        raise _WrongRowError("fields", f"expected 5 fields ({HEADER}); got {len(fields)}")
    image_id, label, count, confidence, pixels = (field.strip() for field in fields)
    if not image_id:
        refuse("ImageId", "a name", image_id)
    size_hw = size_of(image_id)
    if size_hw is None:
        refuse("ImageId", "one of the data set's", image_id)
    if label not in {str(id_) for id_ in WITH_RIDER.ids}:
        refuse("LabelId", f"one of {', '.join(map(str, WITH_RIDER.ids))}", label)
    score = _number(confidence)
    if not 0 <= score <= 1:
        refuse("Confidence", "a number in 0..1", confidence)
    try:
        starts, lengths = _runs(pixels)
        (rle,) = rle_ops.from_runs(row_runs.to_runs([(starts, lengths)], *size_hw))
    except InputError as error:
        raise _WrongRowError("EncodedPixels", f"EncodedPixels: {error}") from None
    if count != str(lengths.sum()):
        refuse("PixelCount", f"{lengths.sum()}, the sum of the run lengths", count)
    return image_id, WadRow(int(label), score, rle)


def _runs(text: str) -> tuple[row_runs.Starts, row_runs.Lengths]:
    """Starts and lengths of `start length|start length|`. Raises `InputError` for other text."""
    pairs = [pair.split() for pair in text.removesuffix("|").split("|")] if text else []
    wrong = next((pair for pair in pairs if len(pair) != 2 or not all(one.isdecimal() for one in pair)), None)
    if wrong is not None:
        raise InputError(f"expected 'start length|start length|'; got {_short(' '.join(wrong))}")
    try:
        runs = np.array(pairs, dtype=np.str_).astype(np.int64).reshape(-1, 2)
    except (OverflowError, ValueError):
        raise InputError("expected starts and lengths within the image; got numbers beyond 64 bits") from None
    return runs[:, 0], runs[:, 1]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _short(text: str) -> str:
    return repr(text) if len(text) <= 80 else repr(text[:77] + "...")
