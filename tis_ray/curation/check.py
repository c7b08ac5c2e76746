"""Looking through a data set: every file, every object, and what is wrong with any of them."""

import multiprocessing
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tis_ray.curation.objects import Objects, contradictions, measure
from tis_ray.curation.pictures import check_picture, copies
from tis_ray.curation.problems import Problem, Problems
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.results.progress import Progress, silent

DECODED = 200  # pictures of which every pixel is read, by default
_CHUNK = 16  # images that a process is given at a time
_AHEAD = 4  # chunks for each process that wait for it

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in one image. `file_bytes` is None where there is no picture, or none was looked for."""

    image_id: int
    objects: Objects
    file_bytes: int | None
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is in a data set of M images with N objects in all, crowds left out, and what is wrong with it.

    truth:        the data set, without what training would refuse
    image_ids:    int64 (N,) the image of each object
    category_ids: int64 (N,)
    areas:        float64 (N,) pixels
    crowds:       number of crowds and regions to ignore
    decoded:      number of pictures of which every pixel was read
    file_bytes:   by image id how large the picture's file is, None where there is none, or none was looked for
    """

    truth: GroundTruth
    problems: Problems
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowds: int
    decoded: int
    file_bytes: Mapping[int, int | None]

    @property
    def scales(self) -> NDArray[np.float64]:
        """The root of the area of each object that has one, in pixels of its image: what the scale CDF is of."""
        return np.sqrt(self.areas[self.areas > 0])


def check(
    truth: GroundTruth,
    problems: Sequence[Problem] = (),
    *,
    pictures: bool = True,
    decode_all: bool = False,
    workers: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> Findings:
    """Look at every image of `truth`; `problems` are those that its opening has found.

    pictures:   look at the files of pictures; else at annotations alone
    decode_all: read every pixel of every picture, else of `DECODED` drawn by `seed`, and the headers of all
    workers:    processes that do it; 1 is this one
    """
    found = Problems()
    found.add(problems)
    chosen = _drawn(truth.images, len(truth) if decode_all else DECODED, seed) if pictures else set()
    names = dict(zip(truth.categories.ids, truth.categories.names, strict=True))
    looked: list[Looked] = []
    tasks = (_Task(record, truth.entries(record.id) if truth.in_memory else None, record.id in chosen)
             for record in truth.images)  # fmt: skip
    look = _Look(None if truth.in_memory else truth, names, pictures)
    for one in progress(mapped(look, tasks, workers=workers), "looking at images", len(truth), "images"):
        found.add(one.problems)
        looked.append(one)
    paths = {record.id: record.path for record in truth.images}
    found.add(
        Problem("same picture", f"{copy} is {first}")
        for copy, first in copies((paths[one.image_id], one.file_bytes) for one in looked)
    )
    findings = Findings(
        truth=truth,
        problems=found,
        image_ids=np.repeat([one.image_id for one in looked], [len(one.objects) for one in looked]).astype(np.int64),
        category_ids=_joined([one.objects.category_ids for one in looked], np.int64),
        areas=_joined([one.objects.areas for one in looked], np.float64),
        crowds=sum(one.objects.crowds for one in looked),
        decoded=sum(one.file_bytes is not None and one.image_id in chosen for one in looked),
        file_bytes={one.image_id: one.file_bytes for one in looked},
    )
    found.add(_of_the_whole(findings))
    return findings


@dataclass(frozen=True, slots=True)
class _Task:
    """One image, with its entries where they are at hand."""

    record: ImageRecord
    entries: Sequence[Mapping[str, Any]] | None
    decode: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks at one image after another; it goes to other processes, hence no function inside another."""

    truth: GroundTruth | None
    names: Mapping[int, str]
    pictures: bool

    def __call__(self, task: _Task) -> Looked:
        record, entries, problems = task.record, task.entries, []
        if entries is None:
            assert self.truth is not None
            try:
                entries = self.truth.entries(record.id)
            except DataError as error:
                problems, entries = [Problem("label image", str(error))], []
        objects, wrong = measure(record, entries)
        problems += wrong + contradictions(record, set(objects.category_ids.tolist()), self.names)
        size = None
        if self.pictures:
            size, wrong = check_picture(record, decode=task.decode)
            problems += wrong
        return Looked(record.id, objects, size, problems)


def mapped(function: Callable[[Item], Answer], items: Iterable[Item], *, workers: int) -> Generator[Answer]:
    """`function` of every item, in their order, by so many processes. Few items wait at any time."""
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # threads of this process do not survive a fork
    waiting: deque[Future[list[Answer]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_remember, initargs=(function,)) as pool:
        try:
            for chunk in _chunks(items):
                waiting.append(pool.submit(_apply, chunk))
                if len(waiting) >= _AHEAD * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_function: list[Callable[[Any], Any]] = []  # of a worker process, which has it sent once


def _remember(function: Callable[[Any], Any]) -> None:
    _function[:] = [function]


def _apply(chunk: Sequence[Any]) -> list[Any]:
    return [_function[0](item) for item in chunk]


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _of_the_whole(findings: Findings) -> Iterator[Problem]:
    truth = findings.truth
    with_objects = set(findings.image_ids.tolist())
    for record in truth.images:
        if record.id not in with_objects:
            yield Problem("image without objects", record.file_name)
    seen = set(findings.category_ids.tolist())
    for id_, name in zip(truth.categories.ids, truth.categories.names, strict=True):
        if id_ not in seen:
            yield Problem("class without objects", name)


def _drawn(records: Sequence[ImageRecord], number: int, seed: int) -> set[int]:
    ids = [record.id for record in records]
    return set(random.Random(seed).sample(ids, min(number, len(ids))))


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)
