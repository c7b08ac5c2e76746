"""A member's model on one replica: all the views of an image that the deployment runs, in one call for each pass."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.boxes import Boxes
from tis_ray.serving.messages import Deadline, DeadlineError, Kept, MasksAnswer, ViewAnswer
from tis_ray.views import View

logger = logging.getLogger("ray.serve")

STUCK_AFTER_S = 300.0  # a forward that takes longer has hung
_Result = TypeVar("_Result")

_PROBE_S = 1.0  # how long a health check waits for the device, which may be busy


class Memory(Protocol):
    """What a predictor keeps of images in between two passes, by key."""

    def holds(self, key: str) -> bool: ...

    def forget(self, key: str) -> None: ...

    def drop_old(self) -> None: ...


class Predicts(Protocol):
    """What a view server needs of a predictor: the instances of each view, the masks of given boxes, both in the image
    frame, and a word on its device: `check_device` raises unless it still computes."""

    @property
    def memory(self) -> Memory: ...

    def predict(
        self, image: NDArray[np.uint8], views: Sequence[View], *, masks: bool = True, remember: str | None = None
    ) -> list[Instances]: ...

    def remember(self, image: NDArray[np.uint8], views: Sequence[View], key: str) -> None: ...

    def predict_masks(
        self,
        image: NDArray[np.uint8],
        boxes: Boxes,
        labels: NDArray[np.int32],
        views: Sequence[View],
        *,
        recall: str | None = None,
    ) -> list[BoxMasks]: ...

    def check_device(self) -> None: ...


def load_predictor(
    checkpoint: Path, categories: Categories, *, device: str, feature_bytes: int, feature_age_s: float
) -> Predicts:
    """The member in a checkpoint directory on `device`, answering in `categories`' labels. Imports PyTorch.

    Features of images that a second pass is to come for take up to `feature_bytes` there, and for `feature_age_s`.
    """
    from tis_ray.inference.feature_memory import FeatureMemory
    from tis_ray.inference.predictor import Predictor

    memory = FeatureMemory(feature_bytes, feature_age_s)
    return Predictor.from_checkpoint(checkpoint, device=device, categories=categories, memory=memory)


class ViewServer:
    """Answers for `views`, which share a member.

    `load` runs on the replica, so that only view servers import PyTorch. One thread owns the model, and so its
    device: requests wait for it in order, and one whose time is up leaves the queue without a forward.

    `leave` is called once the model or its device is broken, which never heals: a CUDA context that has seen an
    illegal access fails in every later call. It ends the process, because a replica that fails at once is always the
    idlest and would draw request after request until Serve's health check has failed three times.

    `name` tells by which name this replica can be asked for, by those who want it to recall what it has looked at.
    """

    def __init__(
        self,
        load: Callable[[], Predicts],
        views: Sequence[View],
        *,
        stuck_after_s: float = STUCK_AFTER_S,
        leave: Callable[[], None] | None = None,
        name: Callable[[], str] = str,
    ) -> None:
        self._views = tuple(views)
        self._predictor = load()
        self._name = name()
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

    async def segment(self, frame: NDArray[np.uint8], *, plan: Plan, key: str, deadline_s: float) -> ViewAnswer:
        """The first pass over `frame` uint8 (H, W, 3), which is read only and stays as it is: what `plan` asks for.

        If that is masks of boxes to come, the features are kept under `key`, as far as there is room for them. Raises
        `DeadlineError` where the model was not free within `deadline_s` seconds.
        """
        look = partial(self._look, frame, plan, key)
        (instances, kept), seconds = await self._in_turn(look, deadline_s, key=key if plan.masks else None)
        return ViewAnswer(tuple(instances), seconds, kept)

    async def masks(
        self, frame: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int32], *, kept: Kept, deadline_s: float
    ) -> MasksAnswer:
        """The second pass over `frame`: each view's masks of boxes float32 (N, 4) in its frame, labels int32 (N,).

        From the features that were `kept`, which are let go of; from new ones where they are gone, or were kept by
        another replica. Raises what `segment` raises.
        """
        segment = partial(self._segment, frame, boxes, labels, kept.key)
        (masks, recalled), seconds = await self._in_turn(segment, deadline_s, key=kept.key)
        return MasksAnswer(tuple(masks), seconds, recalled)

    async def _in_turn(
        self, work: Callable[[], _Result], deadline_s: float, *, key: str | None
    ) -> tuple[_Result, float]:
        """What the model's thread makes of `work`, once it is free, and the seconds it took.

        Where that fails, or is not waited for, nobody will ask for what is kept under `key`: it is let go of once the
        thread has done with it.
        """
        asked = self._thread.submit(self._timed, work, Deadline(deadline_s))
        try:
            return await asyncio.wrap_future(asked)
        except BaseException:
            if key is not None:
                asked.add_done_callback(lambda _: self._predictor.memory.forget(key))
            raise

    def _timed(self, work: Callable[[], _Result], deadline: Deadline) -> tuple[_Result, float]:
        if deadline.passed:
            raise DeadlineError("the model was not free in time")
        self._running = Deadline(self._stuck_after_s)
        start = time.perf_counter()
        try:
            result = work()
        except Exception:
            self._examine()
            raise
        finally:
            self._running = None
        return result, time.perf_counter() - start

    def _look(self, frame: NDArray[np.uint8], plan: Plan, key: str) -> tuple[list[Instances], Kept | None]:
        remember = key if plan.masks else None
        found: list[Instances] = []
        if plan.boxes:
            found = self._predictor.predict(frame, self._views, masks=plan.own_masks, remember=remember)
        else:
            self._predictor.remember(frame, self._views, key)
        if not plan.masks:
            return found, None
        return found, Kept(key, self._name if self._predictor.memory.holds(key) else "")

    def _segment(
        self, frame: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int32], key: str
    ) -> tuple[list[BoxMasks], bool]:
        memory = self._predictor.memory
        recalled = memory.holds(key)
        masks = self._predictor.predict_masks(frame, boxes, labels, self._views, recall=key)
        memory.forget(key)
        return masks, recalled

    def _check_device(self) -> None:
        self._running = Deadline(self._stuck_after_s)
        try:
            self._predictor.memory.drop_old()  # between requests nobody else would
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
