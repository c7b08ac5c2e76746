"""A member's model on one replica: all the views of an image that the deployment runs, in one call for each pass."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.two_pass import Plan
from tis_ray.ops.boxes import Boxes
from tis_ray.serving.messages import Deadline, DeadlineError, Kept, MasksAnswer, ViewAnswer
from tis_ray.serving.metrics import Pass, ViewMetrics
from tis_ray.serving.passes import First, Passes, Predicts, Second
from tis_ray.serving.waiting import Line, Turn
from tis_ray.views import SizeHW, View

logger = logging.getLogger("ray.serve")

STUCK_AFTER_S = 300.0  # a forward that takes longer has hung
_PROBE_S = 1.0  # how long a health check waits for the device, which may be busy


def _nothing_known() -> int | None:
    return None


class ViewServer:
    """Answers for `views`, which share a member.

    `load` runs on the replica, so that only view servers import PyTorch. One thread owns the model, and so its
    device: requests wait for it in line, some share a forward, and one whose time is up or whose caller has gone uses
    the device no further. Where a shared forward fails, each of its pictures is tried alone: one broken picture fails
    nobody else.

    `leave` is called once the model or its device is broken, which never heals: a CUDA context that has seen an
    illegal access fails in every later call. It ends the process, because a replica that fails at once is always the
    idlest and would draw request after request until Serve's health check has failed three times.

    `name` tells by which name this replica can be asked for, by those who want it to recall what it has looked at.
    `sizes_hw` are those of the pictures to come, as far as they are known: on them too the model is warmed up.
    `taken` tells what memory the warm-up took of a GPU, which the log then says.
    """

    def __init__(
        self,
        load: Callable[[], Predicts],
        views: Sequence[View],
        *,
        stuck_after_s: float = STUCK_AFTER_S,
        leave: Callable[[], None] | None = None,
        name: Callable[[], str] = str,
        sizes_hw: Sequence[SizeHW] = (),
        metrics: ViewMetrics | None = None,
        taken: Callable[[], int | None] = _nothing_known,
    ) -> None:
        self._views = tuple(views)
        self._predictor = load()
        self._passes = Passes(self._predictor, self._views, name())
        self._metrics = ViewMetrics() if metrics is None else metrics
        self._line = Line(self._metrics.waiting)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")
        self._stuck_after_s = stuck_after_s
        self._running: Deadline | None = None
        self._broken: Exception | None = None
        self._leave = leave
        self._probe: Future[None] | None = None
        self._warm_up()
        if sizes_hw:
            self._predictor.warm_up(sizes_hw, self._views)
        if (memory := taken()) is not None:
            logger.info("the warm-up of %d views took up to %.2f GiB of the GPU", len(self._views), memory / 2**30)

    def _warm_up(self) -> None:
        # Without their crops, which a small image may miss: every scale has to run.
        views = dict.fromkeys(replace(view, crop=(), tile=()) for view in self._views)
        self._predictor.predict(np.full((64, 96, 3), 128, dtype=np.uint8), list(views))

    async def check_health(self) -> None:
        """Serve asks every few seconds and replaces the replica if this raises: where the device no longer computes,
        after a failure that did not pass, and while one forward runs for longer than any request may.

        The device is asked by the model's own thread, between forwards; a thread that is busy with one is healthy.
        """
        if self._probe is None or self._probe.done():
            self._probe = self._thread.submit(self._check_device)
        await asyncio.wait([asyncio.wrap_future(self._probe)], timeout=_PROBE_S)
        if self._broken is not None:
            raise self._broken
        running = self._running
        if running is not None and running.passed:
            raise DeadlineError(f"the model's device has been busy for more than {self._stuck_after_s:g} s")

    async def segment(self, frame: NDArray[np.uint8], *, plan: Plan, key: str, deadline_s: float) -> ViewAnswer:
        """The first pass over `frame` uint8 (H, W, 3), which is read only and stays as it is: what `plan` asks for.

        If that is masks of boxes to come, the features are kept under `key`, as far as there is room for them. Raises
        `DeadlineError` where the model was not free within `deadline_s` seconds.
        """
        work = First(frame, plan, key)
        turn = Turn(work, deadline_s=deadline_s, kind=work.kind)
        (instances, kept), seconds = await self._in_turn(turn, key=key if plan.masks else None)
        return ViewAnswer(tuple(instances), seconds, kept)

    async def masks(
        self, frame: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int32], *, kept: Kept, deadline_s: float
    ) -> MasksAnswer:
        """The second pass over `frame`: each view's masks of boxes float32 (N, 4) in its frame, labels int32 (N,).

        From the features that were `kept`, which are let go of; from new ones where they are gone, or were kept by
        another replica. Raises what `segment` raises.
        """
        turn = Turn(Second(frame, boxes, labels, kept.key), deadline_s=deadline_s, ahead=True)
        (masks, recalled), seconds = await self._in_turn(turn, key=kept.key)
        self._metrics.features(recalled=recalled)
        return MasksAnswer(tuple(masks), seconds, recalled)

    async def _in_turn(self, turn: Turn, *, key: str | None) -> tuple[Any, float]:
        """What the model's thread makes of a turn, and the seconds that it took, others' that shared them included.

        Where that fails, or is not waited for, nobody will ask for what is kept under `key`: it is let go of once the
        thread has done with it.
        """
        self._line.join(turn)
        self._thread.submit(self._serve_next)
        try:
            return await asyncio.wrap_future(turn.answer)
        except BaseException as error:
            self._line.leave(turn)
            if isinstance(error, (DeadlineError, asyncio.CancelledError)):
                self._metrics.given_up()
            if key is not None:
                turn.answer.add_done_callback(lambda _: self._predictor.memory.forget(key))
            raise

    def _serve_next(self) -> None:
        """In the model's thread, once for each that has joined the line; company leaves it nothing to do later."""
        turns = self._line.take(self._room)
        try:
            for turn in turns:
                self._metrics.waited(_pass(turn), time.perf_counter() - turn.since)
            if turns:
                self._serve(turns)
        except BaseException as error:  # nobody shall wait for an answer that does not come
            for turn in turns:
                if not turn.answer.done():
                    turn.answer.set_exception(error)
            raise

    def _room(self, turn: Turn) -> int:
        """How many of its kind may come along; nobody where that cannot be said, of which its own forward then tells.

        An error here would leave the turn where it is, before all others.
        """
        try:
            return self._passes.room(turn.work)
        except Exception:
            return 1

    def _serve(self, turns: Sequence[Turn]) -> None:
        results: list[Any] | None = None
        try:
            results, seconds = self._timed(turns)
        except Exception as error:
            if len(turns) == 1:
                self._examine()
                turns[0].answer.set_exception(error)
                return
            logger.warning("%d pictures that shared a forward are tried one by one: %s", len(turns), error)
        if results is None:  # out here, where the error no longer keeps what the forward had on the device
            for turn in turns:
                self._serve([turn])
            return
        for turn, result in zip(turns, results, strict=True):
            if result is None:
                turn.answer.set_exception(DeadlineError("the time was up before the model was through"))
            else:
                turn.answer.set_result((result, seconds))

    def _timed(self, turns: Sequence[Turn]) -> tuple[list[Any], float]:
        start = time.perf_counter()
        with self._at_work():
            work = turns[0].work
            if isinstance(work, Second):
                results: list[Any] = [self._passes.second(work, turns[0].wanted)]
            else:
                results = self._passes.first([turn.work for turn in turns], [turn.wanted for turn in turns])
        seconds = time.perf_counter() - start
        self._metrics.ran(_pass(turns[0]), seconds, pictures=len(turns), views=len(self._views))
        return results, seconds

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Meanwhile the health check watches how long it takes."""
        self._running = Deadline(self._stuck_after_s)
        try:
            yield
        finally:
            self._running = None

    def _check_device(self) -> None:
        try:
            with self._at_work():
                self._predictor.memory.drop_old()  # between requests nobody else would
                self._predictor.check_device()
        except Exception as error:
            self._give_up(error)

    def _examine(self) -> None:
        """After a failure: whether it was this image's alone, or the model or its device is broken."""
        try:
            with self._at_work():
                self._warm_up()
                self._predictor.check_device()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        logger.error("the model or its device is broken", exc_info=error)
        self._broken = error
        if self._leave is not None:
            self._leave()


def _pass(turn: Turn) -> Pass:
    return "second" if isinstance(turn.work, Second) else "first"
