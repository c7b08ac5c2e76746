"""Shards of a batch run as a Ray Data pipeline: actors anywhere on a cluster read the images of a shard, ask the
running service, and write the shard themselves; a row of counts for each comes back.

What is held at any time depends on the actors and on the images that each has in flight, not on how many there are.
An actor that dies is started anew, elsewhere if its node is gone, and does its shard again: a shard is whole or absent,
so nothing is lost and nothing doubled. Only the service's own failures end a run (see `pipeline.segment_images`).
"""

import logging
import math
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayError

from tis_ray.errors import ConfigError, DataError, ServiceError, TisRayError
from tis_ray.runs.folder import RunFolder, open_run
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.pipeline import GIVE_UP_AFTER, Segmenter, Streak
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.submission.shard_work import ShardDone, segment_shard, shard_done
from tis_ray.submission.storage import check_storage, idle_nodes
from tis_ray.submission.window import Window
from tis_ray.views import View

IN_FLIGHT_EACH = 8  # images that one actor opens or waits for: what its cores decode meanwhile keeps up with that
_LEAST_ACTORS = 2  # where one dies, another goes on
_SHARDS_EACH = 2  # an actor begins one while it ends the other
_NODE = "ray.io/node-id"  # a label that every node has

_FAILURES: dict[str, type[TisRayError]] = {one.__name__: one for one in (ServiceError, DataError, ConfigError)}

Rows = dict[str, NDArray[Any]]


def stream_shards(
    run: RunFolder,
    numbers: Sequence[int],
    *,
    open_segmenter: Callable[[], Segmenter],
    in_flight: int = 2 * IN_FLIGHT_EACH,
    again: Mapping[int, Collection[int]] | None = None,
    has_worked: bool = False,
) -> Generator[ShardDone, None, None]:
    """Segment the shards of these `numbers` on the Ray that this process is connected to; each is told once written.

    They come in the order in which they are done. `open_segmenter` is called in every actor. At most `in_flight`
    images, divided among the actors, are opened or waiting at any time. For `again` and `has_worked` see
    `segment_shards`. Raises `ConfigError` where a node does not see the run's folder or the images, and what
    `segment_shard` raises.
    Close the generator when stopping early.
    """
    if not numbers:
        return
    actors = min(num_actors(in_flight), in_flight, len(numbers))
    options = {
        "run": run.path.absolute(),
        "open_segmenter": open_segmenter,
        "in_flight": in_flight // actors,
        "again": dict(again or {}),
        "streak": Streak(has_worked, at_first=_at_first(run, numbers, again or {}, actors)),
    }
    check_storage(run)
    try:
        with closing(_rows(_pipeline(numbers, options, actors=actors))) as rows:
            yield from rows
    except RayError as error:
        raise ServiceError(f"the run stopped: {_line(error)}") from None


def served(views: Sequence[View], *, deadline_s: float, **options: Any) -> Callable[[], ServiceSegmenter]:
    """Opens, in any process of the cluster, a segmenter of the service that runs there, with the options of
    `ServiceSegmenter`."""
    return partial(_open_served, tuple(views), deadline_s, options)


def num_actors(in_flight: int) -> int:
    """How many actors share so many images in flight."""
    return max(_LEAST_ACTORS, math.ceil(in_flight / IN_FLIGHT_EACH))


def enough_in_flight(replicas: int) -> int:
    """How many images have to be in flight for so many replicas of a view server never to wait for one: each has one at
    work and one in line, and as many are being decoded, fused, or held up at the end of a shard."""
    return max(IN_FLIGHT_EACH, 4 * replicas)


def _open_served(views: tuple[View, ...], deadline_s: float, options: dict[str, Any]) -> ServiceSegmenter:
    return ServiceSegmenter(fusion_handle(), views, deadline_s=deadline_s, **options)


class _Worker:
    """An actor of the pipeline: does one shard after the other, called by two threads.

    While one waits for the last images of its shard and writes it, those of the other's are in flight.

    What ends the run comes back in the row `failure`: of an exception Ray Data would keep the text alone, in the middle
    of a stack trace.
    """

    def __init__(
        self,
        *,
        run: Path,
        open_segmenter: Callable[[], Segmenter],
        in_flight: int,
        again: Mapping[int, Collection[int]],
        streak: Streak,
    ) -> None:
        self._open = partial(open_run, run), open_segmenter
        self._opened: tuple[RunFolder, Segmenter] | None = None
        self._opening = Lock()
        self._window = Window(in_flight)
        self._again = again
        self._streak = streak

    def __call__(self, batch: Rows) -> Rows:
        (number,) = batch["number"].tolist()
        done, failure = ShardDone(number, 0, 0, 0, 0, 0.0), ["", ""]
        try:
            done = self._do(number)
            self._streak.has_worked |= done.num_images > done.num_failed
        except (*_FAILURES.values(), OSError) as error:
            name = type(error).__name__
            failure = [name if name in _FAILURES else ServiceError.__name__, str(error)]
        return {name: np.array([value]) for name, value in asdict(done).items()} | {"failure": np.array([failure])}

    def _do(self, number: int) -> ShardDone:
        with self._opening:
            if self._opened is None:
                self._opened = self._open[0](), self._open[1]()
        run, segmenter = self._opened
        if number not in self._again and run.shard(number).exists():
            # By an actor that died before it could say so.
            return shard_done(number, list(run.outcomes_of(number)))
        return segment_shard(
            segmenter,
            run,
            number,
            in_flight=self._window,
            again=self._again.get(number),
            streak=self._streak,
        )


def _pipeline(numbers: Sequence[int], options: dict[str, Any], *, actors: int) -> ray.data.Dataset:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # progress is told from the rows
    rows = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
    rows.context.enable_progress_bars = False
    rows.context.print_on_execution_start = False
    rows.context.execution_options.label_selector = _but_for(idle_nodes())
    return rows.map_batches(
        _Worker,
        fn_constructor_kwargs=options,
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            size=actors,
            max_tasks_in_flight_per_actor=_SHARDS_EACH,
            max_concurrent_calls_per_actor=_SHARDS_EACH,
            enable_true_multi_threading=True,
        ),
        num_cpus=0,  # the service may hold all there are, or be about to start replicas on those that are left
    )


def _at_first(run: RunFolder, numbers: Sequence[int], again: Mapping[int, Collection[int]], actors: int) -> int:
    """On how many images an actor may fail before the service has answered it: on its share, if that is small."""
    num_images = sum(len(again.get(number, run.images_of(number))) for number in numbers)
    return min(GIVE_UP_AFTER, math.ceil(num_images / actors))


def _but_for(nodes: Sequence[str]) -> dict[str, str] | None:
    """Selects all nodes but for these."""
    return {_NODE: f"!in({','.join(nodes)})"} if nodes else None


def _rows(data: ray.data.Dataset) -> Generator[ShardDone, None, None]:
    names = [one.name for one in fields(ShardDone)]
    for batch in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for kind, message in batch["failure"].tolist():
            if kind:
                raise _FAILURES[kind](message)
        for values in zip(*(batch[name].tolist() for name in names), strict=True):
            yield ShardDone(*values)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
