"""The proposal network computes what torchvision's does, and learns nothing where there is nothing to learn."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from tests.host_waits import host_waits
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.menu import choices, pick
from tis_ray.models.anchor_matching import AnchorMatcher, iou
from tis_ray.models.anchors.exact import build as exact
from tis_ray.models.anchors.pyramid import build as pyramid
from tis_ray.models.rpn import Float32Head, ProposalNetwork
from tis_ray.models.targets import Target, to_targets

STRIDES = (4, 8, 16, 32, 64)
SIZES = ((8,), (16,), (32,), (64,), (128,))
CHANNELS = 6
FRAMES = [(96, 128), (70, 101)]
OBJECTS: list[list[tuple[int, int, int, int]]] = [
    [(4, 4, 12, 13), (40, 20, 90, 80), (60, 60, 62, 61)],
    [(10, 12, 60, 50)],
]
EVERYTHING = {"samples_per_image": 1_000_000, "positive_fraction": 1.0}


@pytest.fixture
def matcher(request: pytest.FixtureRequest) -> AnchorMatcher:
    return pick("tis_ray.models.anchor_matching", "build", request.param, key="rpn.matching")()


def network(
    strides: tuple[int, ...] = STRIDES, anchors: torch.nn.Module | None = None, **options: Any
) -> ProposalNetwork:
    """A network whose answers spread, as a trained one's do."""
    torch.manual_seed(0)
    anchors = exact(strides, sizes=SIZES) if anchors is None else anchors
    head = Float32Head(CHANNELS, anchors.num_anchors_per_location()[0])
    for layer in (head.conv[0][0], head.cls_logits, head.bbox_pred):
        torch.nn.init.normal_(layer.weight, std=0.2)
    defaults = {
        "matcher": iou.build(),
        "samples_per_image": 256,
        "positive_fraction": 0.5,
        "nms_iou_train": 0.7,
        "nms_iou_test": 0.6,
        "pre_nms_top_n_train": 300,
        "pre_nms_top_n_test": 200,
        "post_nms_top_n_train": 150,
        "post_nms_top_n_test": 40,
    }
    return ProposalNetwork(anchors, head, **{**defaults, **options})


def torchvisions(ours: ProposalNetwork) -> RegionProposalNetwork:
    """torchvision's network with the same anchors, head and settings, which samples all anchors."""
    training, testing = ours.best_in_training, ours.best_in_testing
    return RegionProposalNetwork(
        ours.anchors,
        ours.head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=EVERYTHING["samples_per_image"],
        positive_fraction=EVERYTHING["positive_fraction"],
        pre_nms_top_n={"training": training.pre_nms_top_n, "testing": testing.pre_nms_top_n},
        post_nms_top_n={"training": training.post_nms_top_n, "testing": testing.post_nms_top_n},
        nms_thresh=training.nms_iou if ours.training else testing.nms_iou,
    ).train(ours.training)


def inputs(frames: list[tuple[int, int]] = FRAMES, strides: tuple[int, ...] = STRIDES) -> tuple[ImageList, Any]:
    """A batch padded to one size, and its levels."""
    generator = torch.Generator().manual_seed(1)
    height, width = (-(-max(side) // 32) * 32 for side in zip(*frames, strict=True))
    maps = {
        str(stride): torch.randn(len(frames), CHANNELS, -(-height // stride), -(-width // stride), generator=generator)
        for stride in strides
    }
    return ImageList(torch.zeros(len(frames), 3, height, width), frames), maps


def targets(
    objects: list[list[tuple[int, int, int, int]]] = OBJECTS,
    crowds: list[list[tuple[int, int, int, int]]] | None = None,
    frames: list[tuple[int, int]] = FRAMES,
) -> list[Target]:
    crowds = [[] for _ in objects] if crowds is None else crowds
    annotations = [_annotations(own, regions) for own, regions in zip(objects, crowds, strict=True)]
    return to_targets(annotations, frames[: len(objects)], torch.device("cpu"))


def _annotations(objects: list[tuple[int, ...]], crowds: list[tuple[int, ...]]) -> Annotations:
    boxes = np.array([*objects, *crowds], np.int32).reshape(-1, 4)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in boxes)
    crowd = np.arange(len(boxes)) >= len(objects)
    labels = np.where(crowd, -1, 0).astype(np.int32)
    return Annotations(boxes.astype(np.float32), labels, CropMasks(boxes[:, :2].copy(), crops), crowd)


# -------------------------------------------------------------------------------------------------------- Losses


def gradients(losses: dict[str, Tensor], rpn: ProposalNetwork) -> list[Tensor]:
    return list(torch.autograd.grad(sum(losses.values()), list(rpn.parameters())))


@pytest.mark.parametrize("objects", [OBJECTS, [OBJECTS[0], []], [[], []]], ids=["both", "one empty", "no objects"])
def test_losses_and_gradients_are_torchvisions(objects: list[list[tuple[int, int, int, int]]]) -> None:
    rpn = network(**EVERYTHING)
    batch, maps = inputs()
    _, found = rpn(batch, maps, targets(objects))
    _, expected = torchvisions(rpn)(batch, maps, targets(objects))
    assert found.keys() == expected.keys() == {"loss_objectness", "loss_rpn_box_reg"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    for own, theirs in zip(gradients(found, rpn), gradients(expected, rpn), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


def test_at_most_the_wanted_number_and_share_of_anchors_counts() -> None:
    """Each anchor that counts, and no other, has a gradient at its logit; a positive one's is negative."""
    rpn = network(samples_per_image=16, positive_fraction=0.25)
    batch, maps = inputs()
    levels = rpn.levels(batch, list(maps.values()))
    leaves = [level._replace(logits=level.logits.detach().requires_grad_()) for level in levels]
    rpn.losses(leaves, targets())["loss_objectness"].backward()
    slopes = torch.cat([level.logits.grad for level in leaves], dim=1)
    assert (slopes != 0).sum(dim=1).tolist() == [16, 16]
    positive = (slopes < 0).sum(dim=1)
    assert positive[0] == 4
    assert 1 <= positive[1] <= 4


def test_draws_differ_by_chance_and_agree_by_seed() -> None:
    rpn = network(samples_per_image=16)
    batch, maps = inputs()

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return rpn(batch, maps, targets())[1]["loss_objectness"].item()

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)


WHOLE = [(0, 0, 128, 96)]


@pytest.mark.parametrize("matcher", choices("tis_ray.models.anchor_matching"), indirect=True)
@pytest.mark.parametrize(
    ("objects", "crowds"),
    [
        pytest.param([[], []], [[], []], id="no objects"),
        pytest.param([[], OBJECTS[1]], [WHOLE, []], id="one image ignored throughout"),
        pytest.param([[(7, 7, 8, 8)], [(0, 0, 101, 70)]], [[], []], id="a pixel, and all of an image"),
        pytest.param([[(3, 3, 9, 9)] * 40, []], [[], []], id="forty objects in one place"),
    ],
)
def test_losses_are_finite_and_reach_every_parameter(matcher: AnchorMatcher, objects: Any, crowds: Any) -> None:
    rpn = network(matcher=matcher)
    batch, maps = inputs()
    _, losses = rpn(batch, maps, targets(objects, crowds))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(one).all() for one in gradients(losses, rpn))
    assert (losses["loss_rpn_box_reg"] > 0) == any(objects)


def test_an_object_that_fills_the_frame_has_a_positive_anchor() -> None:
    """None of Pyramid Anchor's overlaps it by 0.7; its best one counts all the same."""
    frame, objects = (320, 448), [(0, 0, 448, 320), (100, 100, 103, 103)]
    rpn = network(anchors=pyramid(STRIDES))
    batch, maps = inputs([frame])
    anchors = torch.cat([level.anchors for level in rpn.levels(batch, list(maps.values()))])
    (target,) = targets([objects], frames=[frame])
    labels, matched = rpn.labels(anchors, target)
    assert target["boxes"][matched[labels == 1]].unique(dim=0).tolist() == [list(one) for one in objects]


def test_what_is_ignored_does_not_depend_on_how_much_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rpn = network()
    batch, maps = inputs()
    anchors = torch.cat([level.anchors for level in rpn.levels(batch, list(maps.values()))])
    (target,) = targets([[(4, 4, 12, 13)]], [[(30, 0, 128, 96)]])
    labels, _ = rpn.labels(anchors, target)
    assert {-1, 0, 1} == set(labels.tolist())
    monkeypatch.setattr("tis_ray.models.rpn.ANCHORS_AT_ONCE", 100)
    assert torch.equal(rpn.labels(anchors, target)[0], labels)


# ----------------------------------------------------------------------------------------------------- Proposals


@pytest.mark.parametrize(
    ("training", "top_n", "count"),
    [
        pytest.param(True, {}, 150, id="training"),
        pytest.param(False, {}, 40, id="testing"),
        pytest.param(True, {"pre_nms_top_n_train": 9, "nms_iou_train": 0.99}, 45, id="few of each level"),
        pytest.param(
            False, {"pre_nms_top_n_test": 9, "nms_iou_test": 0.99, "post_nms_top_n_test": 99}, 45, id="few when testing"
        ),
    ],
)
def test_proposals_are_torchvisions(training: bool, top_n: dict[str, Any], count: int) -> None:
    rpn = network(**top_n).train(training)
    batch, maps = inputs()
    found, losses = rpn(batch, maps, targets())
    expected, _ = torchvisions(rpn)(batch, maps, targets())
    assert bool(losses) == training
    assert count - 10 <= max(len(one) for one in found) <= count
    for own, theirs in zip(found, expected, strict=True):
        assert len(own) > 20
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-3)


def test_proposals_are_detached_float32_under_autocast() -> None:
    rpn = network()
    batch, maps = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, losses = rpn(batch, {key: one.requires_grad_() for key, one in maps.items()}, targets())
        levels = rpn.levels(batch, list(maps.values()))
    said = [part for level in levels for part in level]
    assert {one.dtype for one in [*said, *found, *losses.values()]} == {torch.float32}
    assert not any(one.requires_grad for one in found)
    assert all(loss.requires_grad for loss in losses.values())


def test_images_do_not_depend_on_their_neighbours() -> None:
    rpn = network().eval()
    batch, maps = inputs([(96, 128), (96, 128)])
    together, _ = rpn(batch, maps)
    for i, own in enumerate(together):
        alone = ImageList(batch.tensors[i : i + 1], batch.image_sizes[i : i + 1])
        (one,), _ = rpn(alone, {key: level[i : i + 1] for key, level in maps.items()})
        torch.testing.assert_close(own, one, rtol=1e-5, atol=1e-4)


def test_boxes_outside_of_the_image_are_no_proposals() -> None:
    rpn = network().eval()
    with torch.no_grad():
        rpn.head.bbox_pred.bias.copy_(torch.tensor([1000.0, 0, 0, 0]).repeat(3))
    found, _ = rpn(*inputs())
    assert [one.shape for one in found] == [(0, 4), (0, 4)]


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_level_of_wild_deltas_leaves_the_others_their_proposals(wild: float) -> None:
    rpn = network().eval()
    batch, maps = inputs()
    levels = rpn.levels(batch, list(maps.values()))
    levels[0] = levels[0]._replace(deltas=torch.full_like(levels[0].deltas, wild))
    for one, (height, width) in zip(rpn.best_in_testing(levels, batch.image_sizes), FRAMES, strict=True):
        assert len(one)
        assert (one >= 0).all()
        assert (one[:, 0::2] <= width).all()
        assert (one[:, 1::2] <= height).all()


def test_one_level_is_enough() -> None:
    rpn = network((16,), exact((16,)))
    batch, maps = inputs(strides=(16,))
    found, losses = rpn(batch, maps, targets())
    assert len(found[0]) > 20
    assert all(loss > 0 for loss in losses.values())


def test_a_picture_of_one_pixel_has_proposals() -> None:
    rpn = network()
    batch, maps = inputs([(1, 1)])
    (found,), losses = rpn(batch, maps, targets([[(0, 0, 1, 1)]], frames=[(1, 1)]))
    assert len(found)
    assert found.max() <= 1
    assert all(torch.isfinite(loss) for loss in losses.values())


# ------------------------------------------------------------------------------------------------------- The rest


@pytest.mark.parametrize("matcher", choices("tis_ray.models.anchor_matching"), indirect=True)
@pytest.mark.parametrize("training", [True, False])
def test_waits_for_the_device_in_nms_alone(training: bool, matcher: AnchorMatcher) -> None:
    rpn = network(matcher=matcher).train(training)
    batch, maps = inputs()
    truth = targets([OBJECTS[0], []], [[(60, 10, 120, 70)], []])
    with host_waits() as found:
        rpn(batch, maps, truth)
    assert found == {"torchvision::nms": len(FRAMES)}


def test_weights_have_torchvisions_names() -> None:
    rpn = network()
    assert list(rpn.state_dict()) == list(torchvisions(rpn).state_dict())
