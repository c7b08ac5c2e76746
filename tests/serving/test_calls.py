"""Calls between deployments end at their deadline."""

import asyncio

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tis_ray.serving.calls import bounded, fusion_call
from tis_ray.serving.messages import Deadline, DeadlineError, UnavailableError


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
    assert asyncio.run(bounded(lambda: response, deadline_s=5)) == "answer"
    assert not response.cancelled


def test_a_late_answer_is_given_up_and_cancelled():
    response = Response(60)
    with pytest.raises(DeadlineError, match=r"no answer within 0\.05 s"):
        asyncio.run(bounded(lambda: response, deadline_s=0.05))
    assert response.cancelled


def test_a_time_out_inside_the_replica_is_not_taken_for_the_deadline():
    with pytest.raises(TimeoutError, match="a socket"):
        asyncio.run(bounded(lambda: Response(0, TimeoutError("a socket")), deadline_s=5))


@pytest.mark.parametrize(
    "error",
    [BackPressureError(9, 8), RayActorError(), DeploymentUnavailableError("not there")],
    ids=lambda e: type(e).__name__,
)
def test_a_deployment_that_cannot_serve_is_unavailable(error):
    with pytest.raises(UnavailableError):
        asyncio.run(bounded(lambda: Response(0, error), deadline_s=5))


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
    assert sent == [(["reference"], {"image_hw": (4, 5), "deadline_s": 3, "explain": "boxes"})]


def test_a_deadline_runs_down_and_stays_at_nothing():
    assert 59 < Deadline(60).remaining_s <= 60
    assert Deadline(0).remaining_s == 0
    assert Deadline(0).passed
    assert not Deadline(60).passed
