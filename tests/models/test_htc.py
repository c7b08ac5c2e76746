"""Hybrid Task Cascade: a mask head for each box stage, against its stages written out one region at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from tests.host_waits import host_waits
from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray import menu
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.masks import CropMasks
from tis_ray.models import pyramid_align
from tis_ray.models.assembly import build_detector
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.models.roi_heads import RoiHeads
from tis_ray.models.targets import Target

SIZE = (64, 96)
BOXES = [[10.0, 10, 50, 50], [60, 20, 80, 36], [20, 40, 30, 60]]
STAGES = ["", "_2", "_3"]
WEIGHTS = [1.0, 0.5, 0.25]


def roi_heads(
    *, flow: bool = True, ious: tuple[float, ...] = (0.6, 0.7), positives: float = 0.25, head: str = "convs"
) -> RoiHeads:
    """Three stages whose mask heads say something before they have learnt anything."""
    torch.manual_seed(0)
    content = {
        **TINY_DETECTOR,
        "box": {
            **TINY_DETECTOR["box"],
            "samples_per_image": 32,
            "positive_fraction": positives,
            "cascade": {"ious": ious, "loss_weights": WEIGHTS, "scale_gradients": False},
        },
        "mask": {"head": {head: {"channels": [12]}}, "pool_size": 4, "cascade": {"information_flow": flow}},
    }
    heads = build_detector(parse(DetectorSection, content, source="test"), CATEGORIES).roi_heads
    for one in heads.mask_branch.heads:
        nn.init.normal_(one.logits.weight)
    for stage in heads.stages:
        nn.init.normal_(stage.regressor.weight, std=0.1)
    return heads


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {str(i): torch.randn((1, 16, SIZE[0] >> i + 2, SIZE[1] >> i + 2), generator=generator) for i in range(4)}


def proposals(count: int = 40) -> Tensor:
    """Boxes about the objects, near and far."""
    generator = torch.Generator().manual_seed(2)
    near = torch.tensor(BOXES)[torch.arange(count) % len(BOXES)]
    return (near + torch.randn((count, 4), generator=generator) * 5).clamp(0, SIZE[0])


def target(boxes: list[list[float]]) -> tuple[Target, Tensor]:
    """Objects that fill half of their boxes, as crops and as full masks (G, H, W)."""
    full = np.zeros((len(boxes), *SIZE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(full, np.array(boxes, int).reshape(-1, 4), strict=True):
        mask[y1:y2, x1:x2] = np.tri(y2 - y1, x2 - x1)
    crops = CropMasks(np.zeros((len(boxes), 2), np.int32), tuple(full))
    labels = torch.arange(len(boxes)) % 3 + 1
    corners = torch.tensor(boxes).reshape(-1, 4)
    found = {
        "boxes": corners,
        "labels": labels,
        "masks": PackedCrops.pack(crops, SIZE),
        "ignore": None,
        "unlabelled": torch.zeros((0, 4)),
        "unverified": None,
    }
    return found, torch.from_numpy(full).float()


OBJECTS, FULL = target(BOXES)


def losses(heads: RoiHeads, objects: Target = OBJECTS) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return heads.train()(features(), [proposals()], [SIZE], [objects])[1]


# --------------------------------------------------------------------------------------------- Written out


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def moved(box: list[float], delta: list[float], stage: int) -> list[float]:
    """The box that the stage makes of it: deltas of 10, 10, 5, 5 times the stage's number, clipped."""
    dx, dy, dw, dh = (value / weight / (stage + 1) for value, weight in zip(delta, (10, 10, 5, 5), strict=True))
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + width / 2 + dx * width, box[1] + height / 2 + dy * height
    width, height = width * np.exp(dw), height * np.exp(dh)
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return [float(np.clip(value, 0, SIZE[1 - i % 2])) for i, value in enumerate(corners)]


def best(box: list[float], bound: float) -> tuple[int, int]:
    """The object that it overlaps most, and its class if that is enough."""
    overlaps = [iou(box, other) for other in BOXES]
    index = int(np.argmax(overlaps))
    return index, index % 3 + 1 if overlaps[index] >= bound else 0


def logits_of_stages(heads: RoiHeads, boxes: list[list[float]], labels: list[int], *, flow: bool) -> Tensor:
    """What each of the three mask heads says of each box, (3, R, 8, 8)."""
    branch = heads.mask_branch
    regions = branch.pool(features(), [torch.tensor(boxes)], [SIZE])
    answers, given = [], regions
    for stage, head in enumerate(branch.heads):
        seen = F.relu(F.conv2d(given, head.convs[0][0].weight, head.convs[0][0].bias, padding=1))
        fine = F.relu(F.conv_transpose2d(seen, head.upsample.weight, head.upsample.bias, stride=2))
        answers.append(F.conv2d(fine, head.logits.weight, head.logits.bias)[range(len(labels)), labels])
        if flow and stage < 2:
            layer = branch.flows[stage]
            given = regions + torch.einsum("oc,rcyx->royx", layer.weight[:, :, 0, 0], seen) + layer.bias[:, None, None]
    return torch.stack(answers)


@torch.no_grad()
def written_out(heads: RoiHeads, bounds: tuple[float, ...], *, flow: bool, most: int) -> list[tuple[float, int]]:
    """The mask loss of each stage and the number of regions it is learnt on."""
    torch.manual_seed(3)
    chosen = heads.choose(proposals(), OBJECTS)
    boxes = chosen.boxes.tolist()
    found = []
    for number, stage in enumerate(heads.stages):
        _, deltas = stage(stage.pool(features(), [torch.tensor(boxes)], [SIZE]))
        boxes = [moved(box, delta, number) for box, delta in zip(boxes, deltas[:, 0].tolist(), strict=True)]
        shown = [(box, *best(box, bounds[number])) for box in boxes]
        rois, matched, labels = (list(one) for one in zip(*[one for one in shown if one[2]][:most], strict=True))
        said = logits_of_stages(heads, rois, labels, flow=flow)[number]
        wanted = [
            roi_align(FULL[i][None, None], [torch.tensor([roi])], 8)[0, 0] for roi, i in zip(rois, matched, strict=True)
        ]
        each = [F.binary_cross_entropy_with_logits(a, b).item() for a, b in zip(said, wanted, strict=True)]
        found.append((float(np.mean(each)), len(rois)))
    return found


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize(
    ("ious", "share", "numbers"),
    [
        pytest.param((0.6, 0.7), 0.5, None, id="stricter"),
        pytest.param((0.1, 0.1), 0.125, [4, 4, 4], id="more positives than may be"),
    ],
)
def test_losses_are_those_of_the_stages_written_out(
    flow: bool, ious: tuple[float, ...], share: float, numbers: list[int] | None
) -> None:
    heads = roi_heads(flow=flow, ious=ious, positives=share)
    found = losses(heads)
    expected = written_out(heads, (0.5, *ious), flow=flow, most=heads.max_positives)
    counts = [count for _, count in expected]
    assert numbers is None or counts == numbers
    for stage, (loss, _), weight in zip(STAGES, expected, WEIGHTS, strict=True):
        assert found[f"loss_mask{stage}"].item() == pytest.approx(loss * weight, rel=1e-4), stage
    assert len({loss for loss, _ in expected}) == 3


# ------------------------------------------------------------------------------------------------ Gradients


def reached(heads: RoiHeads, loss: Tensor) -> set[str]:
    """The modules whose parameters the loss moves, by two parts of their names."""
    names, parameters = zip(*heads.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    moved = [name for name, one in zip(names, gradients, strict=True) if one is not None and one.any()]
    return {name.removeprefix("mask_branch.").rsplit(".", 1)[0] for name in moved}


def test_a_mask_head_teaches_those_before_through_what_they_hand_on() -> None:
    heads = roi_heads()
    assert reached(heads, losses(heads)["loss_mask_3"]) == {
        "heads.0.convs.0.0", "flows.0",
        "heads.1.convs.0.0", "flows.1",
        "heads.2.convs.0.0", "heads.2.upsample", "heads.2.logits",
    }  # fmt: skip


def test_without_information_flow_a_mask_head_teaches_itself_alone() -> None:
    heads = roi_heads(flow=False)
    assert reached(heads, losses(heads)["loss_mask_3"]) == {"heads.2.convs.0.0", "heads.2.upsample", "heads.2.logits"}


@pytest.mark.parametrize("flow", [True, False])
def test_without_objects_every_parameter_has_a_gradient(flow: bool) -> None:
    heads = roi_heads(flow=flow)
    found = losses(heads, target([])[0])
    assert [found[f"loss_mask{stage}"].item() for stage in STAGES] == [0, 0, 0]
    torch.stack(list(found.values())).sum().backward()
    assert [name for name, parameter in heads.named_parameters() if parameter.grad is None] == []


def test_each_mask_stage_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid_align, "waiting_is_free", lambda device: False)
    heads = roi_heads()
    torch.manual_seed(3)
    maps, boxes = features(), proposals()
    with host_waits() as waits:
        heads.train()(maps, [boxes], [SIZE], [OBJECTS])
    assert waits == {"tolist": 3}


# ---------------------------------------------------------------------------------------------------- Masks


@pytest.mark.parametrize("flow", [True, False])
@torch.no_grad()
def test_a_mask_is_the_mean_of_what_all_heads_say(flow: bool) -> None:
    heads = roi_heads(flow=flow).eval()
    (found,), _ = heads(features(), [proposals()], [SIZE])
    assert len(found.boxes) == 10
    said = logits_of_stages(heads, found.boxes.tolist(), found.labels.tolist(), flow=flow)
    torch.testing.assert_close(found.mask_probs, said.sigmoid().mean(dim=0))
    assert (said[0] - said[2]).abs().max() > 0.1


@torch.no_grad()
def test_its_own_boxes_have_its_own_masks() -> None:
    heads = roi_heads().eval()
    (found,), _ = heads(features(), [proposals()], [SIZE])
    (again,) = heads.segment(features(), [found.boxes], [found.labels], [SIZE])
    assert torch.equal(again.probs, found.mask_probs)
    (nothing,) = heads.segment(features(), [found.boxes[:0]], [found.labels[:0]], [SIZE])
    assert nothing.probs.shape == (0, 8, 8)


@pytest.mark.parametrize("head", menu.choices("tis_ray.models.mask_heads"))
@torch.no_grad()
def test_every_mask_head_is_told_what_the_one_before_has_found(head: str) -> None:
    branch = roi_heads(head=head).eval().mask_branch
    boxes, labels = OBJECTS["boxes"], OBJECTS["labels"]
    seen = branch._look(features(), [boxes], [SIZE], shared=nn.Identity())
    first, second, _ = branch._say(seen, labels, stages=range(3))
    given = seen.regions + branch.flows[0](first.features)
    torch.testing.assert_close(branch.heads[1](given, labels, **seen.more).masks[-1], second.masks[-1])
    alone = branch.heads[1](seen.regions, labels, **seen.more).masks[-1]
    assert (alone - second.masks[-1]).abs().max() > 1e-3


def test_masks_that_only_teach_are_learnt_stage_by_stage_and_left_out() -> None:
    heads = roi_heads()
    plain = losses(heads)
    heads.mask_branch.only_in_training = True
    assert all(torch.equal(plain[name], loss) for name, loss in losses(heads).items())
    with torch.no_grad():
        (found,), _ = heads.eval()(features(), [proposals()], [SIZE])
    assert found.mask_probs is None


def test_mask_heads_of_a_cascade_need_the_cascade() -> None:
    content = {**TINY_DETECTOR, "mask": {"cascade": {}}}
    with pytest.raises(ConfigError, match=r"mask\.cascade: expected box\.cascade beside it"):
        parse(DetectorSection, content, source="test")
