"""A member's model on one replica: all the views of an image that the deployment runs, in one call."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Categories, Instances
from tis_ray.serving.messages import Deadline, DeadlineError, ViewAnswer
from tis_ray.views import View

logger = logging.getLogger("ray.serve")

STUCK_AFTER_S = 300.0  # a forward that takes longer has hung
_PROBE_S = 1.0  # how long a health check waits for the device, which may be busy


class Predicts(Protocol):
    """What a view server needs of a predictor: the instances of each view, in the image frame, and a word on its
    device: `check_device` raises unless it still computes."""

    def predict(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[Instances]: ...

    def check_device(self) -> None: ...


def load_predictor(checkpoint: Path, categories: Categories, *, device: str) -> Predicts:
    """The member in a checkpoint directory on `device`, answering in `categories`' labels. Imports PyTorch."""
    from tis_ray.inference.predictor import Predictor

    return Predictor.from_checkpoint(checkpoint, device=device, categories=categories)


class ViewServer:
    """Answers for `views`, which share a member.

    `load` runs on the replica, so that only view servers import PyTorch. One thread owns the model, and so its
    device: requests wait for it in order, and one whose time is up leaves the queue without a forward.

    `leave` is called once the model or its device is broken, which never heals: a CUDA context that has seen an
    illegal access fails in every later call. It ends the process, because a replica that fails at once is always the
    idlest and would draw request after request until Serve's health check has failed three times.
    """

    def __init__(
        self,
        load: Callable[[], Predicts],
        views: Sequence[View],
        *,
        stuck_after_s: float = STUCK_AFTER_S,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self._views = tuple(views)
        self._predictor = load()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")
        self._stuck_after_s = stuck_after_s
        self._running: Deadline | None = None
        self._broken: Exception | None = None
        self._leave = leave
        self._probe: Future[None] | None = None
        self._warm_up()

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

    async def segment(self, frame: NDArray[np.uint8], *, deadline_s: float) -> ViewAnswer:
        """Instances of every view of `frame` uint8 (H, W, 3), which is read only and stays as it is.

        Raises `DeadlineError` where the model was not free within `deadline_s` seconds.
        """
        deadline = Deadline(deadline_s)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._predict, frame, deadline)

    def _predict(self, frame: NDArray[np.uint8], deadline: Deadline) -> ViewAnswer:
        if deadline.passed:
            raise DeadlineError("the model was not free in time")
        self._running = Deadline(self._stuck_after_s)
        start = time.perf_counter()
        try:
            instances = self._predictor.predict(frame, self._views)
        except Exception:
            self._examine()
            raise
        finally:
            self._running = None
        return ViewAnswer(tuple(instances), time.perf_counter() - start)

    def _check_device(self) -> None:
        self._running = Deadline(self._stuck_after_s)
        try:
            self._predictor.check_device()
        except Exception as error:
            self._give_up(error)
        finally:
            self._running = None

    def _examine(self) -> None:
        """After a failure: whether it was this image's alone, or the model or its device is broken."""
        try:
            self._warm_up()
            self._predictor.check_device()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        logger.error("the model or its device is broken", exc_info=error)
        self._broken = error
        if self._leave is not None:
            self._leave()
