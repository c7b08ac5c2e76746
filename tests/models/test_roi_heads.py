"""The second stage: stages in a row, what each is trained on, and what its losses are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import box_iou

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.masks import CropMasks
from tis_ray.models.assembly import build_detector
from tis_ray.models.box_stage import BoxStage
from tis_ray.models.classification.softmax import Softmax
from tis_ray.models.deltas import encode
from tis_ray.models.detector import Detector
from tis_ray.models.ignore import IgnoreMap
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.models.roi_heads import Regions
from tis_ray.models.targets import Target

SIZE = (64, 96)


def whole(count: int) -> CropMasks:
    """Masks that fill the picture."""
    return CropMasks(np.zeros((count, 2), np.int32), (np.ones(SIZE, np.uint8),) * count)


def target(boxes: list[list[float]], labels: list[int], *, ignore: IgnoreMap | None = None) -> Target:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": PackedCrops.pack(whole(len(labels)), SIZE),
        "ignore": ignore,
        "unlabelled": torch.zeros((0, 4)),
        "unverified": None,
    }


OBJECTS = target([[10.0, 10, 50, 50], [60, 20, 70, 28]], [2, 3])


def detector(**box: object) -> Detector:
    torch.manual_seed(0)
    content = {**TINY_DETECTOR, "box": {**TINY_DETECTOR["box"], **box}}
    return build_detector(parse(DetectorSection, content, source="test"), CATEGORIES)


def features(model: Detector) -> dict[str, Tensor]:
    return model.neck(model.backbone(torch.randn((1, 3, *SIZE), generator=torch.Generator().manual_seed(1))))


def proposals(count: int = 30) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand((count, 2), generator=generator) * torch.tensor([60.0, 40])
    return torch.cat([corners, corners + 4 + torch.rand((count, 2), generator=generator) * 25], dim=1)


# ------------------------------------------------------------------------------------------------- One stage


@pytest.mark.parametrize("agnostic", [False, True])
def test_losses_of_a_stage_are_torchvisions(agnostic: bool) -> None:
    torch.manual_seed(0)
    weights = (10.0, 10.0, 5.0, 5.0)
    stage = BoxStage(nn.Identity(), None, Softmax(8, 3, cosine=None), nn.Linear(8, 4), delta_weights=weights)
    logits, deltas = torch.randn((20, 4)), torch.randn((20, 4, 4))
    labels = torch.tensor([0, 1, 2, 3] * 5)
    rois, wanted = proposals(20), proposals(20) + 1.5
    expected = fastrcnn_loss(
        logits,
        (deltas[:, :1].expand(-1, 4, -1) if agnostic else deltas).flatten(1),
        [labels],
        [encode(wanted, rois, weights=weights)],
    )
    found = stage.losses(logits, deltas[:, :1] if agnostic else deltas, rois, labels, wanted)
    torch.testing.assert_close(found, expected)


def test_places_that_do_not_count_change_no_loss() -> None:
    torch.manual_seed(0)
    stage = BoxStage(nn.Identity(), None, Softmax(8, 3, cosine=None), nn.Linear(8, 4), delta_weights=(1, 1, 1, 1))
    logits, deltas, rois = torch.randn((6, 4)), torch.randn((6, 1, 4)), proposals(6)
    labels = torch.tensor([2, 0, -1, 1, -1, 0])
    counted = labels >= 0
    alone = stage.losses(logits[counted], deltas[counted], rois[counted], labels[counted], rois[counted] + 1)
    torch.testing.assert_close(stage.losses(logits, deltas, rois, labels, rois + 1), alone)
    nobody = stage.losses(logits, deltas, rois, torch.full_like(labels, -1), rois + 1)
    assert [loss.item() for loss in nobody] == [0, 0]


def test_a_negative_without_sides_spoils_no_gradient() -> None:
    stage = BoxStage(nn.Identity(), None, Softmax(8, 3, cosine=None), nn.Linear(8, 4), delta_weights=(1, 1, 1, 1))
    deltas = torch.zeros((2, 1, 4), requires_grad=True)
    rois = torch.tensor([[5.0, 5, 5, 5], [10, 10, 50, 50]])
    losses = stage.losses(torch.zeros((2, 4)), deltas, rois, torch.tensor([0, 1]), torch.tensor([[0.0, 0, 0, 0]] * 2))
    torch.stack(losses).sum().backward()
    assert torch.isfinite(deltas.grad[0]).all()


# ------------------------------------------------------------------------------------------------- Regions


def test_regions_are_labelled_with_the_object_they_overlap_most() -> None:
    heads = detector(samples_per_image=100, positive_fraction=1.0).roi_heads
    near = torch.tensor([[10.0, 10, 48, 50], [60, 20, 70, 27], [0, 0, 8, 8]])
    chosen = heads.choose(near, OBJECTS)
    assert sorted(zip(chosen.boxes[:, 2].tolist(), chosen.labels.tolist(), strict=True)) == [
        (8, 0), (48, 2), (50, 2), (70, 3), (70, 3)
    ]  # fmt: skip


def test_no_objects_make_all_regions_background() -> None:
    chosen = detector().roi_heads.choose(proposals(), target([], []))
    assert chosen.labels.tolist() == [0] * 16


def test_no_proposals_leave_the_objects_own_boxes() -> None:
    chosen = detector(positive_fraction=1.0).roi_heads.choose(proposals(0), OBJECTS)
    assert sorted(chosen.labels.tolist()) == [2, 3]
    nothing = detector().roi_heads.choose(proposals(0), target([], []))
    assert len(nothing.labels) == 0


def test_a_sampler_is_shown_proposals_and_after_them_the_objects_own_boxes() -> None:
    heads, shown = detector().roi_heads, []
    plain = heads.sampler
    heads.sampler = lambda candidates, **settings: shown.append(candidates) or plain(candidates, **settings)
    heads.choose(proposals(5), OBJECTS)
    (candidates,) = shown
    assert torch.equal(candidates.boxes, torch.cat([proposals(5), OBJECTS["boxes"]]))
    overlaps, matched = box_iou(candidates.boxes, OBJECTS["boxes"]).max(dim=1)
    torch.testing.assert_close(candidates.overlaps, overlaps)
    assert torch.equal(candidates.matched[overlaps > 0], matched[overlaps > 0])


def test_regions_to_ignore_are_no_background() -> None:
    ignored = target([[10.0, 10, 50, 50]], [2], ignore=IgnoreMap.of(whole(1), SIZE, torch.device("cpu")))
    chosen = detector().roi_heads.choose(proposals(), ignored)
    assert set(chosen.labels.tolist()) == {-1, 2}


def test_losses_are_float32_under_autocast_even_without_positives() -> None:
    model = detector().train()
    maps = features(model)
    for objects in (OBJECTS, target([], [])):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, losses = model.roi_heads(maps, [proposals()], [SIZE], [objects])
        assert {loss.dtype for loss in losses.values()} == {torch.float32}


# ------------------------------------------------------------------------------------------------- Cascade


def test_a_cascade_has_a_loss_of_each_stage_and_weighs_it() -> None:
    model = detector(cascade={"ious": [0.6, 0.7], "loss_weights": [1, 0.5, 0.25]}).train()
    torch.manual_seed(3)
    _, losses = model.roi_heads(features(model), [proposals()], [SIZE], [OBJECTS])
    assert set(losses) == {
        "loss_mask", *(f"loss_{name}{stage}" for name in ("classifier", "box_reg") for stage in ("", "_2", "_3"))
    }  # fmt: skip
    plain = detector(cascade={"ious": [0.6, 0.7]}).train()
    torch.manual_seed(3)
    _, whole = plain.roi_heads(features(plain), [proposals()], [SIZE], [OBJECTS])
    assert losses["loss_classifier_3"].item() == pytest.approx(whole["loss_classifier_3"].item() / 4)
    assert losses["loss_box_reg_2"].item() == pytest.approx(whole["loss_box_reg_2"].item() / 2)


def test_later_stages_are_judged_by_a_stricter_bound() -> None:
    heads = detector(cascade={}).roi_heads
    boxes = torch.tensor([[10.0, 10, 50, 36], [10, 10, 50, 48], [0, 0, 5, 5], [10, 10, 50, 50]])
    before = Regions(boxes, torch.zeros(4, dtype=torch.int64), torch.tensor([2, 2, 0, -1]))
    (after,) = heads._relabelled([boxes], [before], [OBJECTS], 0.7)  # IoU 0.65, 0.95, 0, and a place not counted
    assert after.labels.tolist() == [0, 2, 0, -1]


def test_a_box_that_was_refined_to_nothing_is_no_positive_of_a_bound_of_zero() -> None:
    """Its sides cannot be told as deltas: the loss would be infinite."""
    boxes = torch.tensor([[96.0, 20, 96, 40], [10, 10, 20, 20]])
    before = Regions(boxes, torch.zeros(2, dtype=torch.int64), torch.tensor([2, 2]))
    (after,) = detector(cascade={}).roi_heads._relabelled([boxes], [before], [OBJECTS], 0.0)
    assert after.labels.tolist() == [0, 2]


def test_stages_see_the_boxes_that_the_one_before_refined() -> None:
    model = detector(cascade={"ious": [0.7]}).eval()
    seen = []
    for stage in model.roi_heads.stages:
        stage.pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0]))
    with torch.inference_mode():
        maps = features(model)
        model.roi_heads(maps, [proposals()], [SIZE])
        _, deltas = model.roi_heads.stages[0](model.roi_heads.stages[0].pool(maps, [proposals()], [SIZE]))
    torch.testing.assert_close(seen[0], proposals())
    refined = model.roi_heads.stages[0].refined(deltas, proposals())[:, 0]
    torch.testing.assert_close(seen[1][:, 0::2], refined[:, 0::2].clamp(0, SIZE[1]))
    torch.testing.assert_close(seen[1][:, 1::2], refined[:, 1::2].clamp(0, SIZE[0]))


def test_scores_of_a_cascade_are_the_mean_of_its_stages() -> None:
    model = detector(cascade={"ious": [0.7]}).eval()
    with torch.inference_mode():
        maps = features(model)
        _, (scores,) = model.roi_heads._scored(maps, [proposals()], [SIZE])
        first, second = model.roi_heads.stages
        logits, deltas = first(first.pool(maps, [proposals()], [SIZE]))
        refined = model.roi_heads._split(first.refined(deltas, proposals())[:, 0], [proposals()], [SIZE])
        again, _ = second(second.pool(maps, refined, [SIZE]))
    expected = (F.softmax(logits, dim=1) + F.softmax(again, dim=1))[:, 1:] / 2
    torch.testing.assert_close(scores, expected)


def test_gradients_into_the_pyramid_are_divided_by_the_stages() -> None:
    def gradient(**cascade: object) -> Tensor:
        model = detector(cascade={"ious": [0.7], **cascade}, samples_per_image=100).train()
        model.roi_heads.mask_branch = None
        maps = {key: level.detach().requires_grad_() for key, level in features(model).items()}
        torch.manual_seed(3)
        _, losses = model.roi_heads(maps, [proposals()], [SIZE], [OBJECTS])
        torch.stack(list(losses.values())).sum().backward()
        return maps["0"].grad

    torch.testing.assert_close(gradient() * 2, gradient(scale_gradients=False))


# ------------------------------------------------------------------------------------------- Masks in training


def test_boxes_are_the_same_whether_masks_are_predicted_or_only_taught() -> None:
    content = {**TINY_DETECTOR, "mask": {"head": {"convs": {"channels": [16]}}, "only_in_training": True}}
    torch.manual_seed(0)
    taught = build_detector(parse(DetectorSection, content, source="test"), CATEGORIES)
    predicted = detector()
    predicted.load_state_dict(taught.state_dict())
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (without,), (with_masks,) = taught.eval()([image]), predicted.eval()([image])
    assert not taught.predicts_masks
    assert without.mask_probs is None
    assert len(without.boxes) > 0
    assert len(with_masks.mask_probs) == len(with_masks.boxes)
    for a, b in zip(without[:3], with_masks[:3], strict=True):
        assert torch.equal(a, b)
    _, losses = taught.train().roi_heads(features(taught), [proposals()], [SIZE], [OBJECTS])
    assert losses["loss_mask"] > 0
