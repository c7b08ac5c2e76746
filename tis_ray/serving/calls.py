"""Every call from one deployment to another goes through here, because a call to a deployment without a live
replica would wait for ever: each has a deadline, and a call that is given up is cancelled at the other end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tis_ray.serving.messages import DeadlineError, Explain, FusedAnswer, UnavailableError, ViewAnswer
from tis_ray.views import SizeHW


class ViewCall(Protocol):
    """Asks one view server: `frame` is a reference to a uint8 array (H, W, 3)."""

    def __call__(self, frame: Any, *, deadline_s: float) -> Awaitable[ViewAnswer]: ...


class FusionCall(Protocol):
    """Asks the fusion for all views of `frame`, a reference to a uint8 array (H, W, 3)."""

    def __call__(
        self, frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain
    ) -> Awaitable[FusedAnswer]: ...


async def bounded(send: Callable[[], Any], *, deadline_s: float) -> Any:
    """The answer of a Serve response that `send` starts.

    Raises `DeadlineError` after `deadline_s` seconds, `UnavailableError` where the deployment cannot serve it, and
    what the deployment's own code raised.
    """
    response = None
    try:
        async with asyncio.timeout(deadline_s) as limit:
            response = send()
            return await response
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineError(f"no answer within {deadline_s:.3g} s") from error
    except (BackPressureError, DeploymentUnavailableError, RayActorError) as error:
        raise UnavailableError(str(error).splitlines()[0]) from error
    finally:
        if response is not None and limit.expired():
            response.cancel()


def view_call(handle: Any) -> ViewCall:
    """A `ViewCall` over the handle of a view server deployment."""

    async def call(frame: Any, *, deadline_s: float) -> ViewAnswer:
        answer: ViewAnswer = await bounded(
            lambda: handle.segment.remote(frame, deadline_s=deadline_s), deadline_s=deadline_s
        )
        return answer

    return call


def fusion_call(handle: Any, *, grace_s: float = 0.25) -> FusionCall:
    """A `FusionCall` over the handle of the fusion deployment.

    The gateway waits `grace_s` longer than the views may take, so that the fusion can say which of them is late.
    """

    async def call(frame: Any, *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        answer: FusedAnswer = await bounded(
            # A reference inside a list stays a reference: the fusion passes it on without fetching the pixels.
            lambda: handle.segment.remote([frame], image_hw=image_hw, deadline_s=deadline_s, explain=explain),
            deadline_s=deadline_s + grace_s,
        )
        return answer

    return call
