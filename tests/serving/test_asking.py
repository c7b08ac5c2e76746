"""Both passes of a request, without Ray: view servers are plain coroutines here. Ensemble: two detectors, whose masks
nobody wants, and two segmenters, one of them also mirrored."""

import asyncio
import time

import numpy as np
import pytest

from tis_ray.config import Ensemble
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.fusion import Fusion
from tis_ray.serving.messages import DeadlineError, FusedAnswer, Kept, LostError, MasksAnswer, OverloadError, ViewAnswer

ONE = {"scales": [64], "flip": False}
CONTENT = {
    "members": {
        "net_a": {"checkpoint": "net_a", **ONE},
        "net_b": {"checkpoint": "net_b", **ONE},
        "mask_a": {"checkpoint": "mask_a", "scales": [64]},
        "mask_b": {"checkpoint": "mask_b", **ONE},
    },
    "fusion": {"preset": "megdet", "members": {"mask_a": {"role": "masks"}, "mask_b": {"role": "masks"}}},
}
ENSEMBLE = Ensemble.model_validate(CONTENT)
MASKLESS = ("net_a", "net_b")
HW = (60, 80)


class Detector:
    """Finds the same in both passes' only one."""

    def __init__(self, found: Instances) -> None:
        self.found = found.without_masks()

    async def segment(self, frame, *, plan, key, deadline_s):
        assert plan == Plan(boxes=True, own_masks=False, masks=False)
        return ViewAnswer((self.found,), 0.25)


class Segmenter:
    """Keeps features, and gives each box a mask of `level`, but for those of classes it does not know."""

    def __init__(self, level: float = 1.0, *, views: int = 1, knows: tuple[int, ...] = (0, 1, 2)) -> None:
        self.level, self.views, self.knows = level, views, knows
        self.keys: list[str] = []
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []

    async def segment(self, frame, *, plan, key, deadline_s):
        assert plan == Plan(boxes=False, own_masks=False, masks=True)
        assert frame == "the frame"
        self.keys.append(key)
        return ViewAnswer((), 0.125, Kept(key, "a replica"))

    async def masks(self, frame, boxes, labels, *, kept, deadline_s):
        assert frame == "the frame"
        assert kept == Kept(self.keys[-1], "a replica")
        self.asked.append((boxes, labels))
        return MasksAnswer((self.given(boxes, labels),) * self.views, 0.0625, True)

    def given(self, boxes, labels):
        patches = np.full((len(boxes), 14, 14), self.level, dtype=np.float16)
        return BoxMasks(boxes, patches, np.isin(labels, self.knows))


def servers(found: Instances, **changes):
    same = {
        "net_a@64": Detector(found),
        "net_b@64": Detector(found),
        "mask_a@64": Segmenter(views=2),
        "mask_b@64": Segmenter(),
    }
    return same | changes


def segment(servers, *, ensemble: Ensemble = ENSEMBLE, deadline_s: float = 5.0, explain: str = "none") -> FusedAnswer:
    fusion = Fusion(ensemble, servers, maskless=MASKLESS)
    return asyncio.run(fusion.segment("the frame", image_hw=HW, deadline_s=deadline_s, explain=explain))


def with_quorum(views: float) -> Ensemble:
    return Ensemble.model_validate(CONTENT | {"quorum": {"views": views}})


def statuses(answer: FusedAnswer) -> dict[str, str]:
    return {report.view.member: report.status for report in answer.reports}


def broken(method: str, error: Exception, **options):
    """A segmenter that fails in one of the passes."""

    async def fail(*arguments, **keywords):
        raise error

    server = Segmenter(**options)
    setattr(server, method, fail)
    return server


def test_segmenters_are_asked_for_the_fused_boxes_and_their_masks_are_averaged(found):
    asked = servers(found, **{"mask_a@64": Segmenter(0.25, views=2), "mask_b@64": Segmenter(1.0)})
    answer = segment(asked)
    fuser = Fuser.of(ENSEMBLE, None, sizes={}, maskless=MASKLESS)
    boxes = {view: found.without_masks() for view in ENSEMBLE.views if view.member in MASKLESS}
    merged = fuser.merge(boxes, image_hw=HW, sources=ENSEMBLE.views).instances
    for name in ("mask_a@64", "mask_b@64"):
        ((boxes, labels),) = asked[name].asked
        np.testing.assert_array_equal(boxes, merged.boxes)
        np.testing.assert_array_equal(labels, merged.labels)
    np.testing.assert_array_equal(answer.instances.boxes, merged.boxes)
    np.testing.assert_array_equal(answer.instances.scores, merged.scores)
    np.testing.assert_allclose(answer.instances.masks.probabilities, (0.25 + 0.25 + 1) / 3, atol=1e-3)
    assert min(answer.views_s, answer.masks_s, answer.fusion_s) > 0


def test_every_request_has_a_key_of_its_own(found):
    segmenter = Segmenter()
    asked = servers(found, **{"mask_b@64": segmenter})
    for _ in range(3):
        segment(asked)
    assert len(set(segmenter.keys)) == 3


def test_all_segmenters_work_while_the_detectors_do_and_then_at_once(found):
    first, second = asyncio.Barrier(4), asyncio.Barrier(2)  # pass only while all are being asked

    def meeting(call, barrier):
        async def meet(*arguments, **keywords):
            await barrier.wait()
            return await call(*arguments, **keywords)

        return meet

    asked = servers(found)
    for server in asked.values():
        server.segment = meeting(server.segment, first)
        if isinstance(server, Segmenter):
            server.masks = meeting(server.masks, second)
    assert not segment(asked).degraded


def test_reports_say_what_segmenters_gave_for_the_fused_boxes(found):
    asked = servers(found, **{"mask_b@64": Segmenter(knows=(0, 1))})
    answer = segment(asked, explain="masks")
    by_member = {report.view.member: report for report in answer.reports}
    assert statuses(answer) == dict.fromkeys(("mask_a", "mask_b", "net_a", "net_b"), "ok")
    assert [by_member[name].seconds for name in ("net_a", "mask_a")] == [0.25, 0.125 + 0.0625]
    assert by_member["mask_a"].num_instances == len(answer.instances)
    given = by_member["mask_b"].found  # class 2 is one that it does not know
    assert by_member["mask_b"].num_instances == len(given) < len(answer.instances)
    assert set(given.labels.tolist()) == {0, 1}
    assert len(given.masks) == len(given)
    assert all(report.found.masks is None for report in segment(asked, explain="boxes").reports)
    assert all(report.found is None for report in segment(asked).reports)


def test_nobody_is_asked_for_masks_of_nothing():
    asked = servers(Instances.empty())
    answer = segment(asked)
    assert len(answer.instances) == 0
    assert set(statuses(answer).values()) == {"ok"}
    assert asked["mask_a@64"].asked == asked["mask_b@64"].asked == []


FAILED = [
    pytest.param("segment", LostError("died twice"), "error", id="dies in the first pass"),
    pytest.param("segment", DeadlineError("late"), "timeout", id="late in the first pass"),
    pytest.param("masks", LostError("died twice"), "error", id="dies in the second pass"),
    pytest.param("masks", DeadlineError("late"), "timeout", id="late in the second pass"),
]


@pytest.mark.parametrize(("method", "error", "status"), FAILED)
def test_a_view_that_fails_in_either_pass_has_not_answered(found, method, error, status):
    asked = servers(found, **{"mask_a@64": broken(method, error, views=2)})
    answer = segment(asked)
    assert answer.instances is None
    assert statuses(answer) == {"net_a": "ok", "net_b": "ok", "mask_a": status, "mask_b": "ok"}


@pytest.mark.parametrize(("method", "error", "status"), FAILED)
def test_a_quorum_is_answered_with_the_masks_of_the_others(found, method, error, status):
    changes = {"mask_a@64": broken(method, error, views=2), "mask_b@64": Segmenter(0.75)}
    answer = segment(servers(found, **changes), ensemble=with_quorum(0.6), explain="masks")
    assert answer.degraded
    np.testing.assert_allclose(answer.instances.masks.probabilities, 0.75)
    lost = [report for report in answer.reports if report.view.member == "mask_a"]
    assert [(report.num_instances, report.found) for report in lost] == [(0, None)] * 2


@pytest.mark.parametrize("method", ["segment", "masks"])
def test_where_no_segmenter_answers_the_instances_have_no_masks(found, method):
    lost = {name: broken(method, LostError("died twice"), views=2) for name in ("mask_a@64", "mask_b@64")}
    whole = segment(servers(found))
    answer = segment(servers(found, **lost), ensemble=with_quorum(0.4))
    np.testing.assert_array_equal(answer.instances.boxes, whole.instances.boxes)
    assert answer.instances.masks is None or not answer.instances.masks.present.any()
    assert answer.degraded


def test_segmenters_alone_are_no_quorum(found):
    """Without any detector there would be an answer that says that there is nothing."""
    lost = {name: broken("segment", LostError("died twice")) for name in ("net_a@64", "net_b@64")}
    answer = segment(servers(found, **lost), ensemble=with_quorum(0.1))
    assert answer.instances is None
    assert answer.degraded


def test_a_late_detector_leaves_time_for_masks(found):
    given = []

    class Late(Detector):
        async def segment(self, frame, *, plan, key, deadline_s):
            await asyncio.sleep(deadline_s)
            raise DeadlineError("late")

    class Noting(Segmenter):
        async def masks(self, *arguments, deadline_s, **keywords):
            given.append(deadline_s)
            return await super().masks(*arguments, deadline_s=deadline_s, **keywords)

    start = time.monotonic()
    asked = servers(found, **{"net_a@64": Late(found), "mask_b@64": Noting()})
    answer = segment(asked, ensemble=with_quorum(0.6), deadline_s=1.0)
    assert time.monotonic() - start < 5
    assert statuses(answer) == {"net_a": "timeout", "net_b": "ok", "mask_a": "ok", "mask_b": "ok"}
    assert answer.instances.masks.present.all()
    assert 0 < given[0] <= 0.3


def test_a_full_queue_in_the_second_pass_refuses_the_request(found):
    asked = servers(found, **{"mask_b@64": broken("masks", OverloadError("full"))})
    with pytest.raises(OverloadError):
        segment(asked, ensemble=with_quorum(0.1))


def test_a_defect_in_one_answer_leaves_no_other_call_running(found):
    ended = []

    class Slow(Segmenter):
        async def masks(self, *arguments, **keywords):
            try:
                await asyncio.sleep(30)
            finally:
                ended.append("cancelled")

    async def story():
        fusion = Fusion(ENSEMBLE, servers(found, **{"mask_a@64": Segmenter(), "mask_b@64": Slow()}), maskless=MASKLESS)
        with pytest.raises(ValueError, match="zip"):  # one mask of two views
            await fusion.segment("the frame", image_hw=HW, deadline_s=60, explain="none")
        await asyncio.sleep(0)
        return list(ended)

    assert asyncio.run(story()) == ["cancelled"]


class Both(Detector):
    """A member that finds boxes and segments the fused ones; `own` masks come where they are asked for."""

    def __init__(self, found: Instances) -> None:
        self.found, self.plans = found, []

    async def segment(self, frame, *, plan, key, deadline_s):
        self.plans.append(plan)
        return ViewAnswer((self.found if plan.own_masks else self.found.without_masks(),), 0.25, Kept(key, "a"))

    async def masks(self, frame, boxes, labels, *, kept, deadline_s):
        patches = np.full((len(boxes), 14, 14), 0.5, dtype=np.float16)
        return MasksAnswer((BoxMasks(boxes, patches),), 0.25, True)


def test_a_second_pass_of_members_of_both_roles_gives_the_same_answer_with_their_own_masks_beside_it(found):
    content = {"members": {"net": {"checkpoint": "net", **ONE}}, "fusion": {"second_pass": True}}
    ensemble, server = Ensemble.model_validate(content), Both(found)
    answers = [
        asyncio.run(Fusion(ensemble, {"net@64": server}).segment("", image_hw=HW, deadline_s=5, explain=explain))
        for explain in ("none", "masks")
    ]
    assert server.plans == [Plan(boxes=True, own_masks=own, masks=True) for own in (False, True)]
    for answer in answers:
        np.testing.assert_allclose(answer.instances.masks.probabilities, 0.5)
        assert [(report.num_instances, report.seconds) for report in answer.reports] == [(3, 0.5)]
    own = answers[1].reports[0].found
    np.testing.assert_array_equal(own.masks.probabilities, found.masks.probabilities)
