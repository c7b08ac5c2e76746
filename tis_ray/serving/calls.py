"""Every call from one deployment to another goes through here, because a call to a deployment without a live
replica would wait for ever: each has a deadline, and a call that is given up is cancelled at the other end.

A replica that dies costs its calls one more try, which Serve sends to another replica, within the same deadline.
There is never a second one, so that a picture that kills its replica takes two with it at most. What the replica's
own code raised is not tried again: the same picture would break the next replica's model too. Nor is a late call,
whose time is up, or one that found the queue full, which more calls would not empty.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tis_ray.fusion.two_pass import Plan
from tis_ray.ops.boxes import Boxes
from tis_ray.serving.messages import (
    Deadline,
    DeadlineError,
    Explain,
    FusedAnswer,
    Kept,
    LostError,
    MasksAnswer,
    OverloadError,
    UnavailableError,
    ViewAnswer,
)
from tis_ray.serving.time_limit import TimeIsUpError, in_time
from tis_ray.views import SizeHW

logger = logging.getLogger("ray.serve")

# What is kept of a request's time for fusing, writing and sending once the views have had theirs.
_REST_SHARE, _MAX_REST_S = 0.1, 5.0


class ViewCalls(Protocol):
    """Asks one view server: `frame` is a reference to a uint8 array (H, W, 3).

    `segment` is the first pass, in which `plan` says what is asked for, and `masks` the second: it asks for the masks
    of boxes float32 (N, 4) in the image frame with labels int32 (N,), if it can the replica that has `kept` features.
    """

    def segment(self, frame: Any, *, plan: Plan, key: str, deadline_s: float) -> Awaitable[ViewAnswer]: ...

    def masks(
        self, frame: Any, boxes: Boxes, labels: NDArray[np.int32], *, kept: Kept, deadline_s: float
    ) -> Awaitable[MasksAnswer]: ...


class FusionCall(Protocol):
    """Asks the fusion for all views of `frame`, a reference to a uint8 array (H, W, 3), fused in `deadline_s`."""

    def __call__(
        self, frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain
    ) -> Awaitable[FusedAnswer]: ...


async def bounded(send: Callable[[float], Any], *, deadline_s: float) -> Any:
    """The answer of a Serve response that `send` starts, given the seconds left; asked twice if a replica dies.

    Raises `DeadlineError` after `deadline_s` seconds, `LostError` where a second replica died too, `OverloadError`
    where the deployment's queue is full, `UnavailableError` where it does not run, and what its own code raised.
    """
    deadline = Deadline(deadline_s)
    try:
        return await _once(send, deadline)
    except LostError as error:
        logger.warning("asking another replica: %s", str(error))
    return await _once(send, deadline)


async def _once(send: Callable[[float], Any], deadline: Deadline) -> Any:
    left = deadline.remaining_s
    response = None
    try:
        response = send(left)
        return await in_time(response, left)
    except (TimeIsUpError, asyncio.CancelledError) as error:
        if response is not None:
            response.cancel()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise DeadlineError(f"no answer within {left:.3g} s") from None
    except BackPressureError as error:
        raise OverloadError(_line(error)) from error
    except DeploymentUnavailableError as error:
        raise UnavailableError(error.message) from error
    except (RayActorError, ObjectLostError) as error:
        raise LostError(_line(error)) from error


def time_for_views(seconds: float) -> float:
    """How much of `seconds` the views may take, so that what came by then is fused and sent in time."""
    return seconds - min(_REST_SHARE * seconds, _MAX_REST_S)


class ServedViews:
    """`ViewCalls` over the handle of a view server deployment."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def segment(self, frame: Any, *, plan: Plan, key: str, deadline_s: float) -> ViewAnswer:
        answer: ViewAnswer = await bounded(
            lambda left: self._handle.segment.remote(frame, plan=plan, key=key, deadline_s=left), deadline_s=deadline_s
        )
        return answer

    async def masks(
        self, frame: Any, boxes: Boxes, labels: NDArray[np.int32], *, kept: Kept, deadline_s: float
    ) -> MasksAnswer:
        answer: MasksAnswer = await bounded(
            lambda left: self._handle.masks.remote(frame, boxes, labels, kept=kept, deadline_s=left),
            deadline_s=deadline_s,
        )
        return answer


def fusion_call(handle: Any) -> FusionCall:
    """A `FusionCall` over the handle of the fusion deployment, whose views get most of the time."""

    async def call(frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        answer: FusedAnswer = await bounded(
            # A reference inside a list stays a reference: the fusion passes it on without fetching the pixels.
            lambda left: handle.segment.remote(
                [frame], image_hw=image_hw, deadline_s=time_for_views(left), explain=explain
            ),
            deadline_s=deadline_s,
        )
        return answer

    return call


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
