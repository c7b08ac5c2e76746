"""One (member, scale) of the ensemble on one replica: all its views of an image in one call."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Categories, Instances
from tis_ray.serving.messages import Deadline, DeadlineError, ViewAnswer
from tis_ray.views import View


class Predicts(Protocol):
    """What a view server needs of a predictor: the instances of each view, in the image frame."""

    def predict(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[Instances]: ...


def load_predictor(checkpoint: Path, categories: Categories) -> Predicts:
    """The member in a checkpoint directory, answering in the labels of `categories`. Imports PyTorch."""
    from tis_ray.inference.predictor import Predictor

    return Predictor.from_checkpoint(checkpoint, categories=categories)


class ViewServer:
    """Answers for `views`, which share a member and a scale.

    `load` runs on the replica, so that only view servers import PyTorch. One thread owns the model, and so its
    device: requests wait for it in order, and one whose time is up leaves the queue without a forward.
    """

    def __init__(self, load: Callable[[], Predicts], views: Sequence[View]) -> None:
        self._views = tuple(views)
        self._predictor = load()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")
        warm_up = np.full((64, 96, 3), 128, dtype=np.uint8)
        self._predictor.predict(warm_up, self._views)

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
        start = time.perf_counter()
        instances = self._predictor.predict(frame, self._views)
        return ViewAnswer(tuple(instances), time.perf_counter() - start)
