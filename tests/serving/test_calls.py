"""Calls between deployments end at their deadline, and are asked once more where a replica died."""

import asyncio
import time

import pytest
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tis_ray.serving.calls import bounded, fusion_call, time_for_views
from tis_ray.serving.messages import Deadline, DeadlineError, LostError, OverloadError, UnavailableError


class Response:
    """A Serve response that comes after `seconds`, or is an error."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds, self.error, self.cancelled = seconds, error, False

    def __await__(self):
        yield from asyncio.sleep(self.seconds).__await__()
        if self.error:
            raise self.error
        return "answer"

    def cancel(self) -> None:
        self.cancelled = True


def test_an_answer_in_time_comes_through():
    response = Response(0)
    assert asyncio.run(bounded(lambda _: response, deadline_s=5)) == "answer"
    assert not response.cancelled


def test_a_late_answer_is_given_up_and_cancelled():
    response = Response(60)
    with pytest.raises(DeadlineError, match=r"no answer within 0\.05 s"):
        asyncio.run(bounded(lambda _: response, deadline_s=0.05))
    assert response.cancelled


def test_a_time_out_inside_the_replica_is_not_taken_for_the_deadline():
    with pytest.raises(TimeoutError, match="a socket"):
        asyncio.run(bounded(lambda _: Response(0, TimeoutError("a socket")), deadline_s=5))


class Sender:
    """Gives out one prepared response for each call and notes the seconds that were left."""

    def __init__(self, *responses: Response) -> None:
        self.responses, self.left = list(responses), []

    def __call__(self, left: float) -> Response:
        self.left.append(left)
        return self.responses.pop(0)


LOST = [
    pytest.param(RayActorError(), id="died"),
    pytest.param(ActorUnavailableError("gone for now", None), id="unreachable"),
    pytest.param(ObjectLostError("00", None, "the node is gone"), id="its answer is lost"),
]


@pytest.mark.parametrize("error", LOST)
def test_a_call_whose_replica_died_is_asked_once_more_in_the_time_left(error):
    sender = Sender(Response(0.05, error), Response(0))
    assert asyncio.run(bounded(sender, deadline_s=5)) == "answer"
    assert sender.left[0] == pytest.approx(5, abs=0.04)
    assert sender.left[1] <= sender.left[0] - 0.05


@pytest.mark.parametrize("error", LOST)
def test_a_call_that_lost_two_replicas_is_not_asked_a_third_time(error):
    sender = Sender(Response(0, error), Response(0, error))
    with pytest.raises(LostError):
        asyncio.run(bounded(sender, deadline_s=5))
    assert len(sender.left) == 2


def test_the_second_call_ends_at_the_same_deadline():
    late = Response(60)
    start = time.monotonic()
    with pytest.raises(DeadlineError):
        asyncio.run(bounded(Sender(Response(0.2, RayActorError()), late), deadline_s=0.4))
    assert time.monotonic() - start < 10
    assert late.cancelled


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(BackPressureError(9, 8), OverloadError, id="queue full"),
        pytest.param(DeploymentUnavailableError("not there"), UnavailableError, id="failed to deploy"),
        pytest.param(RuntimeError("CUDA out of memory"), RuntimeError, id="this picture broke the model"),
        pytest.param(DeadlineError("late"), DeadlineError, id="late in the replica"),
    ],
)
def test_no_other_failure_is_asked_again(error, raised):
    sender = Sender(Response(0, error))
    with pytest.raises(raised):
        asyncio.run(bounded(sender, deadline_s=5))
    assert len(sender.left) == 1


def test_a_call_is_not_asked_again_once_it_is_late():
    sender = Sender(Response(60))
    with pytest.raises(DeadlineError):
        asyncio.run(bounded(sender, deadline_s=0.05))
    assert len(sender.left) == 1


def test_a_call_that_nobody_waits_for_any_more_is_cancelled():
    response = Response(60)

    async def leave() -> None:
        call = asyncio.create_task(bounded(lambda _: response, deadline_s=60))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(leave())
    assert response.cancelled


@pytest.mark.parametrize(
    ("seconds", "views"), [(60, 55), (10, 9), (0.5, 0.45), (300, 295), (0, 0)], ids=lambda value: str(value)
)
def test_views_leave_time_for_fusing_and_sending(seconds, views):
    assert time_for_views(seconds) == pytest.approx(views)


def test_the_frame_travels_to_the_fusion_as_a_reference():
    sent = []

    class Handle:
        class segment:
            @staticmethod
            def remote(frames, **arguments):
                sent.append((frames, arguments))
                return Response(0)

    call = fusion_call(Handle)
    asyncio.run(call("reference", image_hw=(4, 5), deadline_s=3, explain="boxes"))
    ((frames, arguments),) = sent
    assert frames == ["reference"]
    assert arguments.pop("deadline_s") == pytest.approx(2.7, abs=0.05)
    assert arguments == {"image_hw": (4, 5), "explain": "boxes"}


def test_a_deadline_runs_down_and_stays_at_nothing():
    assert 59 < Deadline(60).remaining_s <= 60
    assert Deadline(0).remaining_s == 0
    assert Deadline(0).passed
    assert not Deadline(60).passed
