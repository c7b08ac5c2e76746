"""A running fusion deployment as a segmenter for batch runs."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from tis_ray.errors import ServiceError
from tis_ray.runs.records import ViewOutcome
from tis_ray.serving.messages import FusedAnswer, OverloadError
from tis_ray.submission.pipeline import Segmented
from tis_ray.views import View

_BUSY_S = 1.0  # between two questions to a service that has too much to do
_GRACE_S = 5.0  # beyond the deadline, so that the fusion can say which view is late


class _LostError(ServiceError):
    """A replica failed or was late; another, or its replacement, may answer."""


class _BusyError(ServiceError):
    """A queue of the service is full, which passes."""


class ServiceSegmenter:
    """A segmenter over the handle of a fusion deployment; `keep_views` brings each view's instances too.

    The image crosses processes once, by reference. An image that a replica lost, or that was answered without some
    views, is asked for once more. An answer that still lacks views is a failure, for in a results file nobody would
    see that it is a worse one; with `allow_degraded` it is taken. Several threads may call it at once; closing it
    cancels what they wait for. `model_version` is what the service runs, to be noted with each answer.
    """

    def __init__(
        self,
        handle: Any,
        views: Sequence[View],
        *,
        deadline_s: float,
        keep_views: bool = False,
        allow_degraded: bool = False,
        model_version: str = "",
    ) -> None:
        self._handle = handle
        self._views = tuple(views)
        self._deadline_s = deadline_s
        self._explain = "masks" if keep_views else "none"
        self._allow_degraded = allow_degraded
        self._model_version = model_version
        self._changed = threading.Condition()
        self._closed = False
        self._calls = 0
        self._responses: set[Any] = set()

    def __call__(self, image: NDArray[np.uint8]) -> Segmented:
        """What the service finds. Raises `ServiceError` where a view failed or was late, or after closing."""
        with self._changed:
            if self._closed:
                raise ServiceError("the batch run was stopped")
            self._calls += 1
        try:
            frame = ray.put(image)
            try:
                return self._ask_patiently(frame, image.shape[:2], allow_degraded=False)
            except _LostError:
                return self._ask_patiently(frame, image.shape[:2], allow_degraded=self._allow_degraded)
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def close(self, within_s: float = 10.0) -> None:
        """Cancel open calls, refuse new ones, and return once none is left, or after `within_s` seconds."""
        with self._changed:
            self._closed = True
            open_ = list(self._responses)
        for response in open_:
            response.cancel()
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, within_s)

    def _ask_patiently(self, frame: Any, image_hw: tuple[int, ...], *, allow_degraded: bool) -> Segmented:
        """Ask again while the service has too much to do, for as long as one answer may take."""
        end = time.monotonic() + self._deadline_s
        while True:
            try:
                return self._ask(frame, image_hw, allow_degraded=allow_degraded)
            except _BusyError:
                if time.monotonic() > end:
                    raise
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _BUSY_S)  # once closed, `_ask` says so

    def _ask(self, frame: Any, image_hw: tuple[int, ...], *, allow_degraded: bool) -> Segmented:
        with self._changed:
            if self._closed:
                raise ServiceError("the batch run was stopped")
            response = self._handle.segment.remote(
                [frame], image_hw=image_hw, deadline_s=self._deadline_s, explain=self._explain
            )
            self._responses.add(response)
        try:
            answer = response.result(timeout_s=self._deadline_s + _GRACE_S)
        except TimeoutError:
            response.cancel()
            raise ServiceError(f"the fusion did not answer within {self._deadline_s:g} s") from None
        except (CancelledError, TaskCancelledError):
            raise ServiceError("the call was cancelled") from None
        except (BackPressureError, OverloadError):
            raise _BusyError(f"the service had too much to do for {self._deadline_s:g} s") from None
        except (RayActorError, ObjectLostError, DeploymentUnavailableError) as error:
            raise _LostError(f"the fusion is gone: {str(error).splitlines()[0]}") from None
        finally:
            with self._changed:
                self._responses.discard(response)
        return self._segmented(answer, allow_degraded=allow_degraded)

    def _segmented(self, answer: FusedAnswer, *, allow_degraded: bool) -> Segmented:
        if answer.instances is None or (answer.degraded and not allow_degraded):
            failed = [f"{report.view.name} ({report.status})" for report in answer.reports if report.status != "ok"]
            raise _LostError(f"views failed: {', '.join(failed)}")
        found = {report.view: report.found for report in answer.reports if report.found is not None}
        views = {view: found[view] for view in self._views if view in found}
        outcomes = tuple(
            ViewOutcome(report.view.name, report.status, report.seconds, report.num_instances)
            for report in answer.reports
        )
        return Segmented(answer.instances, views, outcomes, self._model_version)
