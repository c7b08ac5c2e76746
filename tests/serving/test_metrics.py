"""What each deployment tells of itself, and that the documentation names all of it."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.counting import CountStatuses
from tis_ray.serving.messages import DeadlineError, Kept, ViewReport
from tis_ray.serving.metrics import METRICS, FusionMetrics, GatewayMetrics, Metric, ViewMetrics, in_serve
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

DOCS = Path(__file__).parents[2] / "docs" / "service.md"
VIEWS = (View("a", 64), View("a", 64, True))


class Book:
    """Writes down what is recorded, and makes sure that it has the labels that it should have."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float, tuple[str, ...]]] = []

    def __call__(self, metric: Metric) -> Callable[[float, dict[str, str]], None]:
        def record(value: float, labels: dict[str, str]) -> None:
            assert tuple(labels) == metric.labels
            assert all(isinstance(one, str) for one in labels.values())
            assert metric.kind != "counter" or value > 0  # Ray refuses others
            self.entries.append((metric.name.removeprefix("tis_ray_"), value, tuple(labels.values())))

        return record

    def of(self, name: str) -> list[tuple[float, tuple[str, ...]]]:
        return [(value, labels) for metric, value, labels in self.entries if metric == name]


def test_the_documentation_has_a_row_for_each_metric():
    rows = re.findall(r"^\| `(tis_ray_\w+)` \| (\w+) \| (.*?) ?\| .*\|$", DOCS.read_text(), re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == {metric.name: (metric.kind, metric.labels) for metric in METRICS}


def test_metrics_are_told_apart_by_name_and_histograms_have_growing_buckets():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert (metric.kind == "histogram") == bool(metric.boundaries)
        assert list(metric.boundaries) == sorted(set(metric.boundaries))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_nothing_is_recorded_outside_a_replica(metric):
    assert in_serve(metric)(1.0, dict.fromkeys(metric.labels, "any")) is None


def test_a_gateway_tells_of_statuses_stages_degraded_answers_and_categories():
    book = Book()
    metrics = GatewayMetrics(book)
    metrics.ended(200)
    metrics.refused("late")
    metrics.in_flight(3)
    metrics.answered({"decode_s": 0.25, "total_s": 1.0}, degraded=True)
    metrics.answered({"total_s": 2.0}, degraded=False)
    metrics.found(["bus", "car", "bus"])
    metrics.found([])
    assert book.of("requests") == [(1, ("200",))]
    assert book.of("refused") == [(1, ("late",))]
    assert book.of("in_flight") == [(3, ())]
    assert book.of("stage_seconds") == [(0.25, ("decode",)), (1.0, ("total",)), (2.0, ("total",))]
    assert book.of("degraded") == [(1, ())]
    assert book.of("instances") == [(2, ("bus",)), (1, ("car",))]


def test_a_fusion_tells_how_each_view_fared():
    book = Book()
    FusionMetrics(book).reported([ViewReport(VIEWS[0], "ok", 0.5), ViewReport(VIEWS[1], "timeout", 2.0)])
    assert book.of("views") == [(1, ("a@64", "ok")), (1, ("a@64/flip", "timeout"))]


class Predictor:
    """Finds nothing, and remembers what `kept` names."""

    def __init__(self, *kept: str) -> None:
        self.memory = FeatureMemory(0)
        self.memory.holds = lambda key: key in kept

    def predict(self, image, views):
        return [Instances.empty() for _ in views]

    def pictures_at_once(self, image_hw, views):
        return 4

    def predict_together(self, asked, views, *, masks):
        return [self.predict(one.image, views) for one in asked]

    def predict_masks(self, image, boxes, labels, views, *, recall, wanted):
        return [BoxMasks.empty() for _ in views]


def test_a_view_server_tells_of_its_line_its_forwards_and_its_features():
    book = Book()
    server = ViewServer(lambda: Predictor("known"), VIEWS, metrics=ViewMetrics(book))
    frame, nothing = np.zeros((8, 8, 3), dtype=np.uint8), np.zeros(0, dtype=np.int32)
    plan = Plan(boxes=True, own_masks=True, masks=False)

    async def calls():
        first = [server.segment(frame, plan=plan, key=str(n), deadline_s=30) for n in range(4)]
        late = server.segment(frame, plan=plan, key="late", deadline_s=0)
        second = [
            server.masks(frame, np.zeros((0, 4), dtype=np.float32), nothing, kept=Kept(key, ""), deadline_s=30)
            for key in ("known", "unknown")
        ]
        return await asyncio.gather(*first, late, *second, return_exceptions=True)

    answers = asyncio.run(calls())
    assert [isinstance(answer, DeadlineError) for answer in answers] == [False] * 4 + [True] + [False] * 2
    assert Counter(labels for _, labels in book.of("waiting_seconds")) == {("first",): 4, ("second",): 2}
    assert sum(value for value, _ in book.of("pictures_per_forward")) == 6
    forwards, views = book.of("forward_seconds"), book.of("view_seconds")
    pictures = [value for value, _ in book.of("pictures_per_forward")]
    for (seconds, which), (share, again), together in zip(forwards, views, pictures, strict=True):
        assert share == pytest.approx(seconds / (together * len(VIEWS)))
        assert which == again
    assert [value for value, _ in book.of("busy_seconds")] == [seconds for seconds, _ in forwards]
    assert book.of("given_up") == [(1, ())]
    assert Counter(labels for _, labels in book.of("features")) == {("recalled",): 1, ("missed",): 1}
    assert book.of("waiting")[-1] == (0, ())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(None, [503], id="an answer"),
        pytest.param(asyncio.CancelledError(), [499], id="its client hung up"),
        pytest.param(RuntimeError("a defect"), [500], id="a defect"),
    ],
)
def test_every_end_of_a_request_is_counted_once(raised, expected):
    ended: list[int] = []

    async def app(scope, receive, send):
        if raised is not None:
            raise raised
        await send({"type": "http.response.start", "status": 503})
        await send({"type": "http.response.body"})

    async def sent(message):
        pass

    async def ask(path: str) -> None:
        counting = CountStatuses(app, path="/v1/segment", ended=ended.append)
        try:
            await counting({"type": "http", "path": path}, None, sent)
        except (asyncio.CancelledError, RuntimeError):
            assert raised is not None

    asyncio.run(ask("/healthz"))
    assert ended == []
    asyncio.run(ask("/v1/segment"))
    assert ended == expected
