"""The service's own metrics, over `ray.serve.metrics`: what each is called and means, and who records it when.

Ray adds the labels `deployment`, `replica` and `application`, puts `ray_` before each name and `_total` behind that of
a counter. Outside a Serve replica nothing is recorded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tis_ray.serving.messages import ViewReport

Record = Callable[[float, dict[str, str]], None]

_SECONDS = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0)
# Ray's agent adds a histogram up by the middles of its buckets: small counts are in the middle of these.
_COUNTS = (0.5, 1.5, 2.5, 3.5, 4.5, 6.5, 8.5, 12.5, 16.5, 32.5, 64.5)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `boundaries` are those of a histogram's buckets."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


REQUESTS = Metric("tis_ray_requests", "counter", "requests for a segmentation, by HTTP status", ("status",))
REFUSED = Metric("tis_ray_refused", "counter", "of these, who was refused to keep queues short, and why", ("reason",))
DEGRADED = Metric("tis_ray_degraded", "counter", "answers that lack a view")
IN_FLIGHT = Metric("tis_ray_in_flight", "gauge", "requests that a gateway holds")
STAGE_S = Metric("tis_ray_stage_seconds", "histogram", "seconds of an answered request", ("stage",), _SECONDS)
INSTANCES = Metric("tis_ray_instances", "counter", "instances in answers, of each category found so far", ("category",))
VIEWS = Metric("tis_ray_views", "counter", "how each view fared", ("view", "status"))
FORWARD_S = Metric("tis_ray_forward_seconds", "histogram", "seconds of the device at a time", ("pass",), _SECONDS)
VIEW_S = Metric("tis_ray_view_seconds", "histogram", "of these, for one view of one picture", ("pass",), _SECONDS)
BUSY_S = Metric("tis_ray_busy_seconds", "counter", "seconds for which the device was busy, all in all", ("pass",))
PICTURES = Metric("tis_ray_pictures_per_forward", "histogram", "pictures answered together", (), _COUNTS)
WAITED_S = Metric("tis_ray_waiting_seconds", "histogram", "seconds in line before a model", ("pass",), _SECONDS)
LINE = Metric("tis_ray_waiting", "gauge", "calls in line before a model")
GIVEN_UP = Metric("tis_ray_given_up", "counter", "calls that a model did not answer since nobody waited any more")
FEATURES = Metric("tis_ray_features", "counter", "second passes, by whether features were kept until then", ("found",))

METRICS = (
    *(REQUESTS, REFUSED, DEGRADED, IN_FLIGHT, STAGE_S, INSTANCES, VIEWS),
    *(FORWARD_S, VIEW_S, BUSY_S, PICTURES, WAITED_S, LINE, GIVEN_UP, FEATURES),
)


def in_serve(metric: Metric) -> Record:
    """Who records a metric: Ray in a Serve replica, nobody elsewhere."""
    from ray import serve
    from ray.serve import metrics
    from ray.serve.exceptions import RayServeException

    try:
        serve.get_replica_context()
    except RayServeException:
        return _nobody
    about: dict[str, Any] = {"description": metric.meaning, "tag_keys": metric.labels}
    if metric.kind == "counter":
        return metrics.Counter(metric.name, **about).inc
    if metric.kind == "gauge":
        return metrics.Gauge(metric.name, **about).set
    return metrics.Histogram(metric.name, boundaries=list(metric.boundaries), **about).observe


def _nobody(value: float, labels: dict[str, str]) -> None:
    del value, labels


class GatewayMetrics:
    """What a gateway tells of its requests. `make` gives who records each metric."""

    def __init__(self, make: Callable[[Metric], Record] = in_serve) -> None:
        self._requests, self._refused = make(REQUESTS), make(REFUSED)
        self._degraded, self._in_flight = make(DEGRADED), make(IN_FLIGHT)
        self._stage_s, self._instances = make(STAGE_S), make(INSTANCES)

    def ended(self, status: int) -> None:
        """A request has got an answer of this status; 499 where its client had gone."""
        self._requests(1, {"status": str(status)})

    def refused(self, reason: Literal["full", "late", "stopping"]) -> None:
        """A request was not let in: all places are taken, its time would not be enough, or the service stops."""
        self._refused(1, {"reason": reason})

    def in_flight(self, count: int) -> None:
        """How many requests are held now."""
        self._in_flight(count, {})

    def answered(self, timings: Mapping[str, float], *, degraded: bool) -> None:
        """A picture was answered; `timings` are the answer's: seconds by stage, as `decode_s`."""
        for name, seconds in timings.items():
            self._stage_s(seconds, {"stage": name.removesuffix("_s")})
        if degraded:
            self._degraded(1, {})

    def found(self, categories: Iterable[str]) -> None:
        """The category of each instance of an answer."""
        for category, count in Counter(categories).items():
            self._instances(count, {"category": category})


class FusionMetrics:
    """What a fusion tells of its views. `make` gives who records each metric."""

    def __init__(self, make: Callable[[Metric], Record] = in_serve) -> None:
        self._views = make(VIEWS)

    def reported(self, reports: Sequence[ViewReport]) -> None:
        """A request's views have answered, or have not."""
        for report in reports:
            self._views(1, {"view": report.view.name, "status": report.status})


Pass = Literal["first", "second"]


class ViewMetrics:
    """What a view server tells of its model. `make` gives who records each metric."""

    def __init__(self, make: Callable[[Metric], Record] = in_serve) -> None:
        self._forward_s, self._view_s, self._pictures = make(FORWARD_S), make(VIEW_S), make(PICTURES)
        self._busy_s, self._waited_s, self._line = make(BUSY_S), make(WAITED_S), make(LINE)
        self._given_up, self._features = make(GIVEN_UP), make(FEATURES)

    def waiting(self, count: int) -> None:
        """How many calls are in line now."""
        self._line(count, {})

    def waited(self, which: Pass, seconds: float) -> None:
        """A call's turn has come after so many seconds."""
        self._waited_s(seconds, {"pass": which})

    def ran(self, which: Pass, seconds: float, *, pictures: int, views: int) -> None:
        """The device was busy for so many seconds with some pictures' views."""
        self._forward_s(seconds, {"pass": which})
        self._view_s(seconds / (pictures * views), {"pass": which})
        self._busy_s(seconds, {"pass": which})
        self._pictures(pictures, {})

    def given_up(self) -> None:
        """A call was not answered, since nobody waited any more."""
        self._given_up(1, {})

    def features(self, *, recalled: bool) -> None:
        """A second pass found the features of the first, or had to compute them."""
        self._features(1, {"found": "recalled" if recalled else "missed"})
