"""Three detectors and two segmenters as one ensemble, the COCO 2019 system in small, over real HTTP: the detectors find
boxes, and the segmenters are asked for the masks of those that the fusion keeps."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
import ray
import yaml
from ray import serve
from ray.serve.handle import DeploymentHandle
from safetensors.numpy import load_file, save_file

import tis_ray
from tests.serving.test_service import check_equal, picture_of, png
from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.config import Ensemble, load_ensemble
from tis_ray.formats.members import maskless_members
from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.inference.predictor import Predictor
from tis_ray.serving.app import build
from tis_ray.serving.calls import ServedViews
from tis_ray.serving.client import Client
from tis_ray.serving.fusion import Fusion
from tis_ray.serving.local import free_port, serve_locally
from tis_ray.serving.messages import Kept, MasksAnswer
from tis_ray.serving.running import APPLICATION
from tis_ray.submission.service import ServiceSegmenter

pytestmark = pytest.mark.ray

BOXES_ALONE = {**TINY_DETECTOR, "mask": None}
BOXES = np.array([[5, 5, 40, 30], [30.5, 20.25, 90, 75], [0, 0, 112, 80]], dtype=np.float32)
LABELS = np.array([0, 2, 1], dtype=np.int32)
FEATURES = Plan(boxes=False, own_masks=False, masks=True)
LIGHT = {"num_cpus": 0.05, "num_gpus": 0}
CONTENT = {
    "members": {
        **{name: {"checkpoint": name, "scales": [64], "flip": False} for name in ("net_a", "net_b", "net_c")},
        "mask_a": {"checkpoint": "mask_a", "scales": [64]},
        "mask_b": {"checkpoint": "mask_b", "scales": [72], "flip": False},
    },
    "fusion": {"preset": "megdet", "members": {"mask_a": {"role": "masks"}, "mask_b": {"role": "masks"}}, "top_k": 12},
    "auth": "none",
    "replicas": {
        **dict.fromkeys(("default", "gateway", "fusion"), LIGHT),
        "mask_a@64": {**LIGHT, "num_replicas": 2},
        "mask_b@72": {**LIGHT, "feature_memory_mb": 0},
    },
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_pass")
    for name, seed in zip(("net_a", "net_b", "net_c"), (5, 12, 15), strict=True):  # who find all classes
        save_tiny_checkpoint(folder / name, seed=seed, detector=BOXES_ALONE)
    for seed, name in enumerate(("mask_a", "mask_b")):
        save_decided(save_tiny_checkpoint(folder / name, seed=seed) / "model.safetensors")
    (folder / "ensemble.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder / "ensemble.yaml"


def save_decided(weights: Path) -> None:
    """A new head holds every pixel for as likely as not: give its last layer weights that say something."""
    tensors = load_file(weights)
    logits = "roi_heads.mask_branch.heads.0.logits.weight"
    save_file(tensors | {logits: 3000 * tensors[logits]}, weights)


@pytest.fixture(scope="module")
def ensemble(path: Path) -> Ensemble:
    return load_ensemble(path)


@pytest.fixture(scope="module")
def local(path: Path) -> EnsemblePredictor:
    return tis_ray.load(path, device="cpu")


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, ensemble: Ensemble) -> Iterator[str]:
    """A service of its own, or beside the session's if that runs."""
    if not ray.is_initialized():
        with serve_locally(ensemble, port=free_port()) as running:
            yield running.url
        return
    service = request.getfixturevalue("service")
    serve.run(build(ensemble), name="two_pass", route_prefix="/two_pass")
    try:
        with Client(f"{service.url}/two_pass") as client:
            client.wait_until_ready(60)
        yield f"{service.url}/two_pass"
    finally:
        serve.delete("two_pass")


def handle_of(url: str, deployment: str) -> DeploymentHandle:
    return serve.get_deployment_handle(deployment, app_name=application_of(url))


def application_of(url: str) -> str:
    return "two_pass" if url.endswith("/two_pass") else APPLICATION


def ask(url: str, pixels: np.ndarray, **query: object) -> dict:
    response = httpx.post(
        f"{url}/v1/segment",
        params=query,
        content=png(pixels),
        headers={"Content-Type": "image/png"},
        timeout=60,
        trust_env=False,
    )
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_instance_for_instance_like_one_process(url, local, seed):
    pixels = picture_of(seed, 70 + 10 * seed, 100)
    answer = ask(url, pixels)
    check_equal(answer, local.predict(pixels), local, pixels.shape[:2])
    assert len({row["category"] for row in answer["instances"]}) > 1
    assert sum(row["area"] > 0 for row in answer["instances"]) > len(answer["instances"]) / 2
    assert answer["degraded"] is False


def test_eight_requests_at_once_each_get_their_own_answer(url, local):
    pictures = [picture_of(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pixels: ask(url, pixels), pictures))
    for pixels, answer in zip(pictures, answers, strict=True):
        check_equal(answer, local.predict(pixels), local, pixels.shape[:2])


def test_says_what_every_member_gave_and_how_long_both_passes_took(url):
    answer = ask(url, picture_of(0), explain=True)
    found = {(view["member"], view["flip"]): view for view in answer["views"]}
    fused = [row["bbox"] for row in answer["instances"]]
    assert len(found) == 6
    for (member, _), view in found.items():
        assert view["status"] == "ok"
        assert view["seconds"] > 0
        assert 0 < view["instances"] == len(view["detections"])
        if member.startswith("mask"):  # what it was asked for: all fused boxes
            assert [row["bbox"] for row in view["detections"]] == fused
    timings = answer["timings"]
    assert min(timings["views_s"], timings["masks_s"], timings["fusion_s"]) > 0
    assert timings["total_s"] >= timings["views_s"] + timings["masks_s"] + timings["fusion_s"]


def test_the_detectors_are_those_that_predict_no_masks(ensemble):
    assert maskless_members(ensemble) == {"net_a", "net_b", "net_c"}


def test_describes_itself_with_members_that_give_masks_alone(url):
    answer = httpx.get(f"{url}/v1/ensemble", timeout=60, trust_env=False).json()
    assert answer["deployments"] == ["mask_a@64", "mask_b@72", "net_a@64", "net_b@64", "net_c@64"]
    assert answer["fusion"]["members"]["mask_a"]["role"] == "masks"
    assert len(answer["views"]) == 6


class Asked:
    """Both passes to one segmenter's deployment, as the fusion asks for them, over `ServedViews`."""

    def __init__(self, url: str, deployment: str, pixels: np.ndarray) -> None:
        self.views = ServedViews(handle_of(url, deployment))
        self.frame = ray.put(pixels)

    async def first(self) -> Kept:
        answer = await self.views.segment(self.frame, plan=FEATURES, key=uuid4().hex, deadline_s=60)
        assert answer.instances == ()
        return answer.kept

    async def second(self, kept: Kept) -> MasksAnswer:
        return await self.views.masks(self.frame, BOXES, LABELS, kept=kept, deadline_s=60)


def check_masks(answer: MasksAnswer, path: Path, deployment: str, pixels: np.ndarray) -> None:
    """They are those that the member predicts by itself."""
    views = load_ensemble(path).deployments[deployment]
    predictor = Predictor.from_checkpoint(path.parent / views[0].member, device="cpu")
    expected = predictor.predict_masks(pixels, BOXES, LABELS, views)
    for masks, own in zip(answer.masks, expected, strict=True):
        np.testing.assert_array_equal(masks.probabilities, own.probabilities)
        np.testing.assert_array_equal(masks.present, own.present)


def test_the_second_pass_finds_the_replica_that_has_the_features(url):
    async def many(count: int) -> list[tuple[Kept, MasksAnswer]]:
        asked = Asked(url, "mask_a@64", picture_of(1))
        kept = await asyncio.gather(*(asked.first() for _ in range(count)))
        return list(zip(kept, await asyncio.gather(*(asked.second(one) for one in kept)), strict=True))

    answers = asyncio.run(many(24))
    print(Counter((kept.replica, answer.recalled) for kept, answer in answers))
    assert all(answer.recalled for _, answer in answers)
    assert len({kept.replica for kept, _ in answers}) == 2


def test_what_is_no_longer_remembered_is_computed_again_to_the_same_masks(url, path):
    async def twice() -> list[MasksAnswer]:
        asked = Asked(url, "mask_a@64", picture_of(2))
        kept = await asked.first()
        return [await asked.second(kept), await asked.second(kept)]

    answers = asyncio.run(twice())
    assert [answer.recalled for answer in answers] == [True, False]  # the first question was the last that is foreseen
    for answer in answers:
        check_masks(answer, path, "mask_a@64", picture_of(2))


def test_without_any_memory_every_mask_is_computed_from_new_features(url, path):
    async def once() -> MasksAnswer:
        asked = Asked(url, "mask_b@72", picture_of(3))
        return await asked.second(await asked.first())

    answer = asyncio.run(once())
    assert not answer.recalled
    check_masks(answer, path, "mask_b@72", picture_of(3))


def test_a_request_without_any_fused_box_is_answered_without_a_second_pass(url, ensemble, local):
    strict = ensemble.fusion.model_copy(update={"score_threshold": 1.0})
    servers = {name: ServedViews(handle_of(url, name)) for name in ensemble.deployments}
    fusion = Fusion(
        ensemble.model_copy(update={"fusion": strict}),
        servers,
        local.categories,
        maskless=maskless_members(ensemble),
    )
    frame = ray.put(picture_of(4))
    answer = asyncio.run(fusion.segment(frame, image_hw=(80, 112), deadline_s=60, explain="masks"))
    assert len(answer.instances) == 0
    assert not answer.degraded
    masks = [report for report in answer.reports if report.view.member.startswith("mask")]
    assert [(report.num_instances, report.found) for report in masks] == [(0, None)] * 3


def test_a_batch_run_asks_in_two_passes_too(url, ensemble, local):
    handle = handle_of(url, "Fusion")
    segmenter = ServiceSegmenter(handle, ensemble.views, deadline_s=60, keep_views=True)
    segmented = segmenter(picture_of(5))
    expected = local.predict(picture_of(5))
    np.testing.assert_array_equal(segmented.instances.boxes, expected.boxes)
    np.testing.assert_array_equal(segmented.instances.masks.probabilities, expected.masks.probabilities)
    for view, found in segmented.views.items():
        assert (found.masks is not None) == view.member.startswith("mask")


def test_a_segmenter_that_dies_between_the_passes_is_replaced_by_the_other_replica(url, path, local):
    """The last test here: Serve needs some seconds to start the dead replica anew."""

    async def killed_between() -> tuple[Kept, MasksAnswer]:
        asked = Asked(url, "mask_a@64", picture_of(6))
        kept = await asked.first()
        ray.kill(ray.get_actor(f"SERVE_REPLICA::{application_of(url)}#mask_a@64#{kept.replica}", namespace="serve"))
        return kept, await asked.second(kept)

    _, answer = asyncio.run(killed_between())
    assert not answer.recalled
    check_masks(answer, path, "mask_a@64", picture_of(6))
    check_equal(ask(url, picture_of(6)), local.predict(picture_of(6)), local, (80, 112))
