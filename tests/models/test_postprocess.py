"""From scored boxes to detections: torchvision's answers, with and without waiting, and the bounds."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from tis_ray.models import postprocess
from tis_ray.models.postprocess import Postprocess

SIZE = (200, 300)


@pytest.fixture(params=["counted", "never waited for"], autouse=True)
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocess, "waiting_is_free", lambda device: request.param == "counted")


def settings(**changes: float) -> Postprocess:
    return Postprocess(
        **{"score_threshold": 0.05, "nms_iou": 0.5, "max_candidates": 10_000, "max_instances": 100} | changes
    )


def some(regions: int, classes: int, *, agnostic: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((regions, 1 if agnostic else classes, 2), generator=generator) * 260 - 20
    boxes = torch.cat([corners, corners + torch.rand(corners.shape, generator=generator) * 90], dim=-1)
    return boxes, (torch.randn((regions, classes + 1), generator=generator) * 3).softmax(dim=1)[:, 1:]


def expected(boxes: Tensor, scores: Tensor, limits: Postprocess) -> tuple[Tensor, Tensor, Tensor]:
    """Candidate by candidate, as torchvision's heads do it."""
    regions, classes = scores.shape
    every = clip_boxes_to_image(boxes.expand(-1, classes, -1).reshape(-1, 4), SIZE)
    labels = torch.arange(1, classes + 1).repeat(regions)
    keep = torch.where(scores.flatten() > limits.score_threshold)[0]
    every, flat, labels = every[keep], scores.flatten()[keep], labels[keep]
    keep = remove_small_boxes(every, 1e-2)
    every, flat, labels = every[keep], flat[keep], labels[keep]
    keep = batched_nms(every, flat, labels, limits.nms_iou)[: limits.max_instances]
    return every[keep], flat[keep], labels[keep]


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("regions", "classes"), [(0, 3), (1, 1), (60, 1), (200, 7), (40, 300)])
def test_answers_are_torchvisions(regions: int, classes: int, agnostic: bool) -> None:
    boxes, scores = some(regions, classes, agnostic=agnostic)
    for found, wanted in zip(settings()(boxes, scores, SIZE), expected(boxes, scores, settings()), strict=True):
        torch.testing.assert_close(found, wanted)


def test_torchvisions_own_heads_say_the_same() -> None:
    """The oracle above against the method it spells out."""
    boxes, scores = some(80, 5, agnostic=True)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 1, 0.5, None, 0.05, 0.5, 100)
    logits = torch.cat([1 - scores.sum(dim=1, keepdim=True), scores], dim=1).log()
    deltas = torch.zeros((80, 6 * 4))
    theirs = heads.postprocess_detections(logits, deltas, [boxes[:, 0]], [SIZE])
    for found, wanted in zip(settings()(boxes, scores, SIZE), theirs, strict=True):
        torch.testing.assert_close(found, wanted[0], rtol=1e-4, atol=1e-4)


def test_nothing_above_the_threshold_is_no_detection() -> None:
    boxes, scores = some(20, 3, agnostic=False)
    found = settings(score_threshold=1.0)(boxes, scores, SIZE)
    assert [tuple(each.shape) for each in found] == [(0, 4), (0,), (0,)]


def test_boxes_outside_of_the_image_are_no_detections() -> None:
    boxes = torch.tensor([[[-50.0, 10, -5, 40]], [[10, 10, 40, 40]], [[20, 20, 20.001, 90]]])
    found, _, labels = settings()(boxes, torch.full((3, 1), 0.9), SIZE)
    assert found.tolist() == [[10, 10, 40, 40]]
    assert labels.tolist() == [1]


def test_bounds_keep_the_best() -> None:
    boxes, scores = some(100, 4, agnostic=False)
    everything = settings(nms_iou=0.99, score_threshold=0.0)(boxes, scores, SIZE)
    few = settings(nms_iou=0.99, score_threshold=0.0, max_instances=7)(boxes, scores, SIZE)
    narrow = settings(nms_iou=0.99, score_threshold=0.0, max_candidates=7)(boxes, scores, SIZE)
    assert torch.equal(few[1], everything[1][:7])
    assert set(narrow[1].tolist()) <= set(scores.flatten().topk(7).values.tolist())
