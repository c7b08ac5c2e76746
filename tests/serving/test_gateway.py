"""The gateway's side of a request, without Ray: the fusion is a plain coroutine here."""

import asyncio
import io
import threading
import time
from dataclasses import replace

import numpy as np
import orjson
import pytest
from PIL import Image

from tis_ray.config import Limits
from tis_ray.instances import Categories, Instances
from tis_ray.serving import decoding
from tis_ray.serving.admission import Pace
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.messages import (
    Deadline,
    DeadlineError,
    FusedAnswer,
    LostError,
    OverloadError,
    UnavailableError,
    ViewReport,
)
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.readiness import Readiness, warm_up_image
from tis_ray.serving.schemas import SegmentAnswer, SegmentQuery
from tis_ray.serving.versions import model_version
from tis_ray.views import View

CATEGORIES = Categories((3, 7, 9), ("car", "person", "bus"))
VIEWS = (View("a", 64), View("a", 64, True))


def gateway(*, fusion=None, answer: FusedAnswer | None = None, pace: Pace | None = None, **limits) -> Gateway:
    async def fixed(frame, *, image_hw, deadline_s, explain):
        return answer

    return Gateway(
        fusion or fixed,
        put=lambda frame: frame,
        categories=CATEGORIES,
        limits=Limits(**limits),
        model_version="0123456789ab",
        pace=pace,
    )


def fused(instances: Instances | None, *statuses: str) -> FusedAnswer:
    reports = tuple(
        ViewReport(view, status, 0.5, 3) for view, status in zip(VIEWS, statuses or ("ok", "ok"), strict=True)
    )
    return FusedAnswer(instances, reports, 0.5, 0.25)


def png(height: int = 60, width: int = 80) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def ask(service: Gateway, image: bytes | None = None, *, deadline_s: float = 60.0, **query) -> dict:
    asked = SegmentQuery.model_validate(query)
    return orjson.loads(asyncio.run(service.segment(image or png(), asked, Deadline(deadline_s))))


def problem(service: Gateway, **arguments) -> ProblemError:
    with pytest.raises(ProblemError) as error:
        ask(service, **arguments)
    return error.value


def test_writes_boxes_as_xywh_and_labels_as_the_data_sets_categories(found):
    answer = ask(gateway(answer=fused(found)))
    assert [row["category_id"] for row in answer["instances"]] == [9, 3, 7]
    assert [row["category"] for row in answer["instances"]] == ["bus", "car", "person"]
    assert answer["instances"][0]["bbox"] == [4, 5, 20, 20]
    scores = np.array([row["score"] for row in answer["instances"]], dtype=np.float32)
    np.testing.assert_array_equal(scores, np.array([0.9, 0.5, 0.25], dtype=np.float32))
    SegmentAnswer.model_validate(answer)


def test_masks_are_clipped_to_the_image(found):
    answer = ask(gateway(answer=fused(found)))
    assert all(row["segmentation"]["size"] == [60, 80] for row in answer["instances"])
    first, last = answer["instances"][0]["area"], answer["instances"][2]["area"]
    assert 0 < last < first  # the last box of the same size lies half outside


def test_without_masks_area_is_the_boxs(found):
    answer = ask(gateway(answer=fused(found.without_masks())))
    assert [(row["segmentation"], row["area"]) for row in answer["instances"]] == [
        (None, 400),
        (None, 600),
        (None, 400),
    ]
    assert ask(gateway(answer=fused(found)), masks="none")["instances"] == answer["instances"]


@pytest.mark.parametrize("masks", ["rle", "polygon", "none"])
def test_masks_of_which_a_fit_is_predicted_have_a_score_of_their_own(found, masks):
    plain = ask(gateway(answer=fused(found)), masks=masks)["instances"]
    quality = np.float32([0.5, 0.1, 1])
    present = np.array([True, True, False])
    rescored = replace(found, masks=replace(found.masks, quality=quality, present=present))
    answer = ask(gateway(answer=fused(rescored)), masks=masks)
    SegmentAnswer.model_validate(answer)
    rows = answer["instances"]
    assert [row.pop("mask_score", None) for row in rows] == pytest.approx([0.45, 0.05, None])
    assert rows[:2] == plain[:2]
    assert rows[2]["score"] == plain[2]["score"]


def test_no_instances_is_an_answer():
    for masks in ("rle", "polygon", "none"):
        answer = ask(gateway(answer=fused(Instances.empty(mask_size=14))), masks=masks)
        assert answer["instances"] == []


@pytest.mark.parametrize(
    ("statuses", "named"),
    [
        pytest.param(("ok", "error"), "1 of 2 views did not answer: a@64/flip (error)", id="failed"),
        pytest.param(("ok", "timeout"), "1 of 2 views did not answer: a@64/flip (timeout)", id="late"),
        pytest.param(("timeout", "error"), "2 of 2 views did not answer: a@64 (timeout), a@64/flip (error)", id="both"),
    ],
)
def test_too_many_missing_views_are_named_in_the_refusal(statuses, named):
    error = problem(gateway(answer=fused(None, *statuses)))
    assert (error.status, error.detail, error.headers) == (503, named, {"Retry-After": "5"})


def test_an_answer_that_lacks_a_view_says_so(found):
    answer = ask(gateway(answer=fused(found, "ok", "timeout")))
    assert answer["degraded"] is True
    assert [view["status"] for view in answer["views"]] == ["ok", "timeout"]
    assert len(answer["instances"]) == 3
    assert ask(gateway(answer=fused(found)))["degraded"] is False


def test_a_warm_up_takes_no_degraded_answer(found):
    """Readiness does: it says that every deployment has answered."""
    with pytest.raises(ProblemError, match=r"1 of 2 views did not answer: a@64/flip \(timeout\)"):
        asyncio.run(gateway(answer=fused(found, "ok", "timeout")).warm_up(png()))
    assert asyncio.run(gateway(answer=fused(found)).warm_up(png()))


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        pytest.param(OverloadError("the queue is full"), "1", id="full"),
        pytest.param(LostError("two replicas died"), "5", id="dead"),
        pytest.param(UnavailableError("it failed to deploy"), "5", id="not there"),
        pytest.param(DeadlineError("no answer within 3 s"), "5", id="silent"),
    ],
)
def test_a_fusion_that_cannot_answer_is_a_503(error, retry_after):
    async def failing(frame, *, image_hw, deadline_s, explain):
        raise error

    refusal = problem(gateway(fusion=failing))
    assert (refusal.status, refusal.headers) == (503, {"Retry-After": retry_after})


def test_the_fusion_is_asked_for_no_more_than_the_time_left(found):
    asked = []

    async def noting(frame, *, image_hw, deadline_s, explain):
        asked.append(deadline_s)
        return fused(found)

    ask(gateway(fusion=noting), deadline_s=3.0)
    assert 2 < asked[0] < 3


def test_no_time_left_after_decoding_is_a_504():
    async def never(frame, *, image_hw, deadline_s, explain):
        raise AssertionError("must not be asked")

    assert problem(gateway(fusion=never), deadline_s=0.0).status == 504


def test_an_answer_that_is_written_too_late_is_a_504(found):
    async def just_in_time(frame, *, image_hw, deadline_s, explain):
        time.sleep(0.2)  # the fusion's answer came within the deadline; what is done with it ends after it
        return fused(found)

    error = problem(gateway(fusion=just_in_time), deadline_s=0.15)
    assert error.status == 504
    assert "the answer written" in error.detail


def test_a_picture_that_takes_long_to_decode_is_given_up_at_the_deadline(monkeypatch):
    release = threading.Event()
    service = gateway()
    monkeypatch.setattr(decoding, "decode_image", lambda image, *, max_pixels: release.wait(30))

    async def segment() -> float:
        start = time.monotonic()
        with pytest.raises(ProblemError, match="the deadline passed"):
            await service.segment(png(), SegmentQuery(), Deadline(0.1))
        release.set()
        return time.monotonic() - start

    assert asyncio.run(segment()) < 10


def test_the_work_ends_a_moment_before_the_clients_deadline():
    for asked, left in [(1.0, 0.98), (20.0, 19.8)]:
        deadline = gateway().deadline(SegmentQuery(deadline_s=asked))
        assert left - 0.1 < deadline.remaining_s <= left


def test_pixels_are_counted_before_decoding():
    error = problem(gateway(max_pixels=4000), image=png())
    assert error.status == 413
    assert error.members == {"field": "image", "expected": "at most 4000 pixels", "got": "80 x 60 = 4800"}


def test_drains():
    service = gateway()

    async def drain_with_one_in_flight() -> tuple[bool, bool]:
        with service.admitted(Deadline(60)):
            early = await service.drain(0.1)
            with pytest.raises(ProblemError, match="shutting down") as error, service.admitted(Deadline(60)):
                pass
            assert (error.value.status, error.value.headers) == (503, {"Retry-After": "5"})
        return early, await service.drain(5)

    assert not service.draining
    assert asyncio.run(drain_with_one_in_flight()) == (False, True)
    assert service.draining


def test_places_are_given_back():
    service = gateway(max_queued_requests=2)
    with service.admitted(Deadline(60)), service.admitted(Deadline(60)):
        with pytest.raises(ProblemError, match="2 requests are waiting") as error, service.admitted(Deadline(60)):
            pass
        assert error.value.status == 503
    with service.admitted(Deadline(60)):
        pass


def test_nobody_is_told_to_come_back_after_more_time_than_a_request_gets():
    pace = Pace(clock=lambda: clock_s)
    clock_s = 0.0
    inside = [pace.enter() for _ in range(3)]
    clock_s = 5000.0
    pace.leave(inside[0], answered=True)
    service = gateway(pace=pace, deadline_s=20)
    for asked_s, most in [(2, "20"), (30, "30")]:
        with pytest.raises(ProblemError, match="before this one") as error, service.admitted(Deadline(asked_s)):
            pass
        assert (error.value.status, error.value.headers) == (503, {"Retry-After": most})


def test_model_version_follows_names_and_contents(tmp_path):
    def write(folder, weights: bytes):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "model.safetensors").write_bytes(weights)
        for name in ("recipe.yaml", "categories.json"):
            (tmp_path / folder / name).write_text(name)
        return tmp_path / folder

    first = model_version({"a": write("a", b"1"), "b": write("b", b"2")})
    assert first == model_version({"b": tmp_path / "b", "a": tmp_path / "a"})
    assert len(first) == 12
    assert first != model_version({"a": tmp_path / "a", "c": tmp_path / "b"})
    assert first != model_version({"a": write("a", b"3"), "b": tmp_path / "b"})
    (write("a", b"1") / "training_sizes.json").write_text('{"quantiles": [1, 2]}')
    assert first != model_version({"a": tmp_path / "a", "b": tmp_path / "b"})  # automatic ranges go by them


def test_ready_only_after_the_warm_up_image_was_answered():
    tries = []

    async def segment(image: bytes) -> bytes:
        tries.append(image)
        if len(tries) == 1:
            raise ProblemError(503, "a@64 is not there")
        if len(tries) == 2:
            raise RuntimeError("the replica died")
        return b"{}"

    readiness = Readiness(segment, pause_s=0)
    assert not readiness.ready
    asyncio.run(readiness.run())
    assert readiness.ready
    assert tries == [warm_up_image()] * 3
    assert Image.open(io.BytesIO(tries[0])).size == (256, 160)
