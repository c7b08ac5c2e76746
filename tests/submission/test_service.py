"""What a batch run makes of answers that lack views. The handle is a stand-in: real views fail when they like."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

from tests.running_service import Service
from tis_ray.errors import ServiceError
from tis_ray.instances import Instances
from tis_ray.serving.messages import FusedAnswer, OverloadError, Status, ViewReport
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.views import View

pytestmark = pytest.mark.ray  # the frame goes through the object store

VIEWS = (View("a", 64), View("b", 64))
FRAME = np.zeros((8, 8, 3), np.uint8)


def answer(second: Status, *, fused: bool = True) -> FusedAnswer:
    """The fusion's answer where the first view is well and the second has this status."""
    reports = (ViewReport(VIEWS[0], "ok", 0.1), ViewReport(VIEWS[1], second, 0.1))
    return FusedAnswer(Instances.empty() if fused else None, reports, 0.1, 0.1)


class Handle:
    """A fusion that gives one answer after the other, or raises it."""

    def __init__(self, *answers: FusedAnswer | Exception) -> None:
        self._answers: Iterator[FusedAnswer | Exception] = iter(answers)
        self.segment = self
        self.asked = 0

    def remote(self, frames: list[ray.ObjectRef], **options: Any) -> "Handle":
        self.asked += 1
        return self

    def result(self, *, timeout_s: float) -> FusedAnswer:
        given = next(self._answers)
        if isinstance(given, Exception):
            raise given
        return given


def segmenter(handle: Handle, **options: bool) -> ServiceSegmenter:
    return ServiceSegmenter(handle, VIEWS, deadline_s=5, **options)


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_a_degraded_answer_is_asked_for_again_and_then_a_failure(service: Service, status: Status) -> None:
    handle = Handle(answer(status), answer(status))
    with pytest.raises(ServiceError, match=rf"views failed: b@64 \({status}\)"):
        segmenter(handle)(FRAME)
    assert handle.asked == 2


def test_a_whole_answer_at_the_second_attempt_is_as_good_as_at_the_first(service: Service) -> None:
    assert segmenter(Handle(answer("error"), answer("ok")))(FRAME).missing == ()
    assert segmenter(Handle(answer("error"), answer("ok")), allow_degraded=True)(FRAME).missing == ()


def test_a_degraded_answer_is_taken_at_the_second_attempt_where_allowed(service: Service) -> None:
    handle = Handle(answer("timeout"), answer("error"))
    assert segmenter(handle, allow_degraded=True)(FRAME).missing == ("b@64",)
    assert handle.asked == 2


def test_an_answer_without_anything_fused_is_never_taken(service: Service) -> None:
    handle = Handle(answer("error", fused=False), answer("error", fused=False))
    with pytest.raises(ServiceError, match="views failed"):
        segmenter(handle, allow_degraded=True)(FRAME)


def test_a_service_with_too_much_to_do_is_asked_again(service: Service) -> None:
    handle = Handle(OverloadError("full"), OverloadError("full"), answer("ok"))
    assert segmenter(handle)(FRAME).missing == ()
    assert handle.asked == 3
