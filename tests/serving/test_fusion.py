"""The fusion's side of a request, without Ray: view servers are plain coroutines here."""

import asyncio
import time

import numpy as np
import pytest

from tis_ray.config import Ensemble, Quorum
from tis_ray.errors import ConfigError
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.fuse import fuse
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Categories, Instances
from tis_ray.serving.fusion import Fusion
from tis_ray.serving.messages import DeadlineError, LostError, OverloadError, ViewAnswer

ENSEMBLE = Ensemble.model_validate(
    {
        "members": {
            "a": {"checkpoint": "a", "scales": [64, 96]},
            "b": {"checkpoint": "b", "scales": [64], "flip": False},
        },
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.5}}], "top_k": 50},
    }
)
HW = (60, 80)
CATEGORIES = Categories((1, 2, 3), ("car", "person", "bus"))


class Server:
    """A view server that answers as `call` does, and is asked for its own detections alone."""

    def __init__(self, call) -> None:
        self.call = call

    async def segment(self, frame, *, plan, key, deadline_s):
        assert plan == Plan(boxes=True, own_masks=True, masks=False)
        return await self.call(frame, deadline_s=deadline_s)


def answering(found: Instances, *views: int):
    """A view server that finds `found`, moved by a few pixels for each of its views."""

    async def call(frame, *, deadline_s):
        assert frame == "the frame"
        return ViewAnswer(tuple(moved(found, number) for number in views), 0.125)

    return call


def moved(found: Instances, number: int) -> Instances:
    boxes = found.boxes + np.float32(9 * number)
    return Instances.of(boxes, found.scores / (1 + number), found.labels)


def servers(found: Instances, **changes):
    calls = {"a@64": answering(found, 0, 1), "a@96": answering(found, 2, 3), "b@64": answering(found, 4)} | changes
    return {name: Server(call) for name, call in calls.items()}


def segment(fusion: Fusion, *, deadline_s: float = 5.0, explain: str = "none"):
    return asyncio.run(fusion.segment("the frame", image_hw=HW, deadline_s=deadline_s, explain=explain))


def test_fuses_what_the_views_found_in_the_order_of_sources(found):
    answer = segment(Fusion(ENSEMBLE, servers(found)))
    views = {view: moved(found, number) for number, view in enumerate(ENSEMBLE.views)}
    expected = fuse(views, ENSEMBLE.fusion, image_hw=HW, sources=ENSEMBLE.views)
    np.testing.assert_array_equal(answer.instances.boxes, expected.boxes)
    np.testing.assert_array_equal(answer.instances.source, expected.source)
    assert [report.view for report in answer.reports] == list(ENSEMBLE.views)
    assert {(report.status, report.seconds, report.num_instances) for report in answer.reports} == {("ok", 0.125, 3)}
    assert all(report.found is None for report in answer.reports)


def test_asks_all_view_servers_at_once(found):
    together = asyncio.Barrier(3)  # passes only while all three are being asked

    def meeting(call):
        async def meet(frame, *, deadline_s):
            await together.wait()
            return await call(frame, deadline_s=deadline_s)

        return meet

    answer = segment(Fusion(ENSEMBLE, {name: Server(meeting(one.call)) for name, one in servers(found).items()}))
    assert answer.instances is not None


def test_explains_with_each_views_own_boxes(found):
    answer = segment(Fusion(ENSEMBLE, servers(found)), explain="boxes")
    for number, report in enumerate(answer.reports):
        np.testing.assert_array_equal(report.found.boxes, moved(found, number).boxes)
        assert report.found.masks is None


def test_batch_runs_get_each_views_masks_too(found):
    async def with_masks(frame, *, deadline_s):
        return ViewAnswer((found, found), 0.125)

    async def one_with_masks(frame, *, deadline_s):
        return ViewAnswer((found,), 0.125)

    three = servers(found, **{"a@64": with_masks, "a@96": with_masks, "b@64": one_with_masks})
    answer = segment(Fusion(ENSEMBLE, three), explain="masks")
    assert [len(report.found.masks) for report in answer.reports] == [3] * 5


def test_a_view_server_that_fails_is_named_and_nothing_is_answered(found):
    async def broken(frame, *, deadline_s):
        raise RuntimeError("the device is gone")

    answer = segment(Fusion(ENSEMBLE, servers(found, **{"a@96": broken})))
    assert answer.instances is None
    assert [report.status for report in answer.reports] == ["ok", "ok", "error", "error", "ok"]


def test_a_view_server_that_is_late_is_named(found):
    async def late(frame, *, deadline_s):
        assert deadline_s <= 0.2
        await asyncio.sleep(deadline_s)
        raise DeadlineError("late")

    start = time.monotonic()
    answer = segment(Fusion(ENSEMBLE, servers(found, **{"b@64": late})), deadline_s=0.2)
    assert time.monotonic() - start < 2
    assert answer.instances is None
    assert [report.status for report in answer.reports] == ["ok", "ok", "ok", "ok", "timeout"]


def with_quorum(views: float) -> Ensemble:
    return ENSEMBLE.model_copy(update={"quorum": Quorum(views=views)})


def failing(error: Exception):
    async def call(frame, *, deadline_s):
        raise error

    return call


@pytest.mark.parametrize(
    ("views", "missing", "answered"),
    [
        pytest.param(1.0, [], True, id="all of all"),
        pytest.param(1.0, ["b@64"], False, id="all but one of all"),
        pytest.param(0.8, ["b@64"], True, id="exactly four of five"),
        pytest.param(0.8, ["a@64"], False, id="three of five, four asked for"),
        pytest.param(0.5, ["a@64"], True, id="three of five, half asked for"),
        pytest.param(0.5, ["a@64", "b@64"], False, id="two of five, half asked for"),
        pytest.param(0.01, ["a@64", "a@96"], True, id="one of five"),
        pytest.param(0.01, ["a@64", "a@96", "b@64"], False, id="none is never enough"),
    ],
)
def test_a_quorum_of_views_is_fused_without_the_missing(found, views, missing, answered):
    replaced = {name: failing(LostError("died twice")) for name in missing}
    answer = segment(Fusion(with_quorum(views), servers(found, **replaced)))
    lacking = {view for name in missing for view in ENSEMBLE.deployments[name]}
    assert {report.view for report in answer.reports if report.status == "error"} == lacking
    assert answer.degraded == bool(missing)
    assert (answer.instances is not None) == answered
    if answered:
        left = {v: moved(found, number) for number, v in enumerate(ENSEMBLE.views) if v not in lacking}
        expected = fuse(left, ENSEMBLE.fusion, image_hw=HW, sources=ENSEMBLE.views)
        np.testing.assert_array_equal(answer.instances.boxes, expected.boxes)
        np.testing.assert_array_equal(answer.instances.source, expected.source)


def test_no_other_scale_speaks_for_the_sizes_of_a_missing_one(found):
    """Boxes of 20, 24.5 and 20 px: without @96, which alone may speak below 22 px, the small ones are missing."""
    sections = {"fusion": {"ranges": {"@96": [0, 22], "@64": [22, 1000]}, "rules": []}, "quorum": {"views": 0.1}}
    ensemble = Ensemble.model_validate(ENSEMBLE.model_dump() | sections)
    same = {"a@64": answering(found, 0, 0), "a@96": answering(found, 0, 0), "b@64": answering(found, 0)}
    everybody = segment(Fusion(ensemble, servers(found, **same))).instances
    assert len(everybody) == 2 * 2 + 3 * 1
    lacking = servers(found, **same | {"a@96": failing(LostError("died twice"))})
    without = segment(Fusion(ensemble, lacking)).instances
    np.testing.assert_array_equal(without.boxes, [[30, 10, 50, 40]] * 3)


def test_a_full_queue_degrades_nothing_and_ends_the_other_calls(found):
    ended = []

    async def slow(frame, *, deadline_s):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("slow")
            raise

    fusion = Fusion(with_quorum(0.1), servers(found, **{"a@64": slow, "b@64": failing(OverloadError("full"))}))
    with pytest.raises(OverloadError):
        segment(fusion)
    assert ended == ["slow"]


def test_another_fusion_section_takes_effect_while_running(found):
    fusion = Fusion(ENSEMBLE, servers(found))
    before = len(segment(fusion).instances)
    fusion.reconfigure({"rules": [{"nms": {"iou_threshold": 0.5}}], "top_k": 2})
    assert len(segment(fusion).instances) == 2 < before
    assert fusion.ensemble.fusion.top_k == 2


def test_a_section_that_goes_by_class_names_has_the_class_table(found):
    fusion = Fusion(ENSEMBLE, servers(found), CATEGORIES)
    before = segment(fusion).instances
    fusion.reconfigure({"rare_boost": {"delta": 1, "classes": ["car", "person", "bus"]}, "top_k": 50})
    after = segment(fusion).instances
    np.testing.assert_allclose(after.scores.max(), min(2 * before.scores.max(), 1))
    with pytest.raises(ConfigError, match="did you mean 'bus'"):
        fusion.reconfigure({"rare_boost": {"classes": ["buss"]}})


def test_automatic_ranges_go_by_the_sizes_that_it_was_started_with(found):
    sizes = {"a": TrainingSizes((1.0, 2.0)), "b": TrainingSizes((3.0, 5.0))}
    fusion = Fusion(ENSEMBLE, servers(found), CATEGORIES, sizes)
    fusion.reconfigure({"ranges": "auto", "top_k": 50})
    views = {view: moved(found, number) for number, view in enumerate(ENSEMBLE.views)}
    expected = fuse(views, fusion.ensemble.fusion, image_hw=HW, sources=ENSEMBLE.views, sizes=sizes)
    np.testing.assert_array_equal(segment(fusion).instances.source, expected.source)
    assert set(expected.source.tolist()) < set(fuse(views, ENSEMBLE.fusion, image_hw=HW).source.tolist())
    unknown = Fusion(ENSEMBLE, servers(found), CATEGORIES, {"a": sizes["a"]})
    with pytest.raises(ConfigError, match=r"training_sizes\.json in b, the checkpoint of members\.b"):
        unknown.reconfigure({"ranges": "auto"})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param({"rules": ["nsm"]}, "nms", id="unknown rule"),
        pytest.param({"top": 3}, "top_k", id="unknown key"),
        pytest.param({"ranges": {"@65": [0, 10]}}, "@64", id="scale nobody has"),
    ],
)
def test_a_wrong_section_is_refused_and_the_old_one_stays(found, section, message):
    fusion = Fusion(ENSEMBLE, servers(found))
    with pytest.raises(ConfigError, match=message):
        fusion.reconfigure(section)
    assert fusion.ensemble.fusion == ENSEMBLE.fusion
    assert segment(fusion).instances is not None
