"""Every choice of every menu of the detector at work: one step that reaches all weights, learning, odd inputs.

A new module in a menu folder is tested here without a line written. Networks are as small as their names allow and
pictures of 64 x 96 px, so that a ResNet-152 takes a second or two.
"""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.host_waits import host_waits
from tests.tiny import TINY_DETECTOR, classes
from tis_ray import menu
from tis_ray.config import DetectorSection, parse
from tis_ray.instances import Annotations, Categories
from tis_ray.masks import CropMasks
from tis_ray.models import postprocess, pyramid_align
from tis_ray.models.assembly import build_detector, check_parts
from tis_ray.models.detector import Detector
from tis_ray.models.mask_heads._own_class import OwnClassLogits
from tis_ray.models.roi_heads import Detections
from tis_ray.models.targets import Target, to_targets

SIZE = (64, 96)
LONG_TAIL = Categories(
    (1, 2, 3, 4),
    ("a", "b", "c", "d"),
    counts=(5, 50, 500, 5000),
    image_shares=(0.0001, 0.001, 0.01, 0.5),
)

# What a part needs around it to work at all.
SURROUNDINGS = {
    ("necks", "c4"): {
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": {"head": {"convs": {"channels": []}}, "pool_size": 6},
    },
    ("box_heads", "average"): {"neck": "c4", "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}}, "mask": None},
}
KEYS = {
    "necks": "neck",
    "anchors": "anchors",
    "anchor_matching": "rpn.matching",
    "roi_sampling": "box.sampling",
    "box_heads": "box.head",
    "classification": "box.classification",
    "roi_pooling": "mask.pooling",
    "mask_heads": "mask.head",
    "mask_losses": "mask.loss",
}
OPTIONS = {
    ("necks", "fpn"): {"channels": 16},
    ("box_heads", "mlp"): {"hidden": 32},
    ("box_heads", "convs"): {"channels": [16], "hidden": 32},
    ("box_heads", "split"): {"channels": [16], "hidden": 32},
    ("roi_pooling", "subnet"): {"channels": 16},
    ("roi_pooling", "deformable"): {"hidden": 16},
    ("mask_heads", "convs"): {"channels": [16]},
    ("mask_heads", "boundary"): {"channels": [16]},
    ("mask_heads", "boundary_light"): {"channels": [16, 16]},
    ("mask_heads", "residual"): {"channels": [16]},
}
PARTS = [(folder, name) for folder in KEYS for name in menu.choices(f"tis_ray.models.{folder}")]
# Settings that are no menus.
SECTIONS = {
    "cascade": {"box.cascade": {"ious": [0.6, 0.7]}},
    "cascade of two": {"box.cascade": {"ious": [0.7], "scale_gradients": False}},
    "context": {"box.context": {"factor": 1.5}},
    "context added": {"box.context": {"factor": 2, "merge": "add"}},
    "class-agnostic": {"box.class_agnostic": True},
    "cosine": {"box.classification": {"softmax": {"cosine": 20}}},
    "cosine of sigmoids": {"box.classification": {"eql": {"cosine": 20}}},
    "area ratio": {"mask.area_ratio": {"beta": 1.0}},
    "area ratio in a cascade": {
        "box.cascade": {"ious": [0.5]},
        "mask": {"head": {"convs": {"channels": [16]}}, "cascade": {}, "area_ratio": {}},
    },
    "masks to learn from": {"mask": {"head": {"convs": {"channels": [16]}}, "only_in_training": True}},
    "rescored masks": {"mask": {"head": {"convs": {"channels": [16]}}, "rescore": {"channels": 16, "hidden": 32}}},
    "contours in a cascade": {
        "box.cascade": {"ious": [0.7]},
        "mask": {"head": {"boundary": {"channels": [16]}}, "loss": "balanced", "cascade": {}},
    },
    "residual in a cascade": {
        "box.cascade": {"ious": [0.7]},
        "mask": {"head": {"residual": {"channels": [16]}}, "cascade": {}},
    },
    "contours of one map": {
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": {"head": {"boundary_light": {"channels": [16]}}, "loss": "balanced", "pool_size": 6},
    },
    "residual of one map": {
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": {"head": {"residual": {"channels": [], "residual_channels": [16]}}, "pool_size": 6},
    },
    "subnetwork of groups, from corner to corner": {
        "mask.pooling": {"subnet": {"channels": 16, "norm": "group", "align": "tf", "sizes": [1, 3], "kernel": 1}}
    },
    "subnetwork on one map": {
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": {
            "pooling": {"subnet": {"channels": 16}},
            "head": {"convs": {"channels": [16], "upsample": False}},
            "pool_size": 6,
        },
    },
    "deformable regions with context": {"box.pooling": {"deformable": {"hidden": 16}}, "box.context": {}},
    "mask heads that are told nothing": {
        "box.classification": "group_softmax",
        "box.cascade": {"ious": [0.6, 0.7]},
        "mask": {
            "head": {"convs": {"channels": [16]}},
            "cascade": {"information_flow": False},
            "rescore": {"channels": 16, "hidden": 32},
        },
    },
    "mask heads of one map": {
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6, "cascade": {"ious": [0.7]}},
        "mask": {"head": {"convs": {"channels": [16]}}, "pool_size": 6, "cascade": {}},
    },
    "LVIS 2020": {
        "box.pooling": {"deformable": {"hidden": 16}},
        "box.classification": "eql",
        "box.cascade": {"ious": [0.6, 0.7], "loss_weights": [1, 0.5, 0.25], "scale_gradients": False},
        "mask": {
            "pooling": {"deformable": {"hidden": 16}},
            "head": {"boundary_light": {"channels": [16] * 7}},
            "loss": "balanced",
            "area_ratio": {},
            "cascade": {},
        },
    },
    "masks of all techniques": {
        "box.cascade": {"ious": [0.6, 0.7]},
        "mask": {
            "pooling": {"subnet": {"channels": 16}},
            "head": {"boundary": {"channels": [16]}},
            "loss": "balanced",
            "area_ratio": {"beta": 1.0},
            "rescore": {"channels": 16, "hidden": 32},
            "cascade": {},
        },
        "stuff": {"num_classes": 3, "channels": 16},
    },
    "stuff": {"stuff": {"num_classes": 3, "channels": 16}},
    "stuff of one map": {
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": None,
        "stuff": {"num_classes": 3, "channels": 16},
    },
    "deformable pyramid": {"neck": {"fpn": {"channels": 16, "deformable": True}}},
    "synchronised": {
        "neck": {"fpn": {"channels": 16, "norm": "sync"}},
        "mask": {"head": {"convs": {"channels": [16], "norm": "sync"}}},
    },
    "MegDetV2": {
        "neck": {"fpn": {"channels": 16, "deformable": True}},
        "rpn.matching": "top_k",
        "rpn.nms_iou_train": 0.9,
        "box.head": {"split": {"channels": [16], "hidden": 32}},
        "box.sampling": "class_aware",
        "box.pooling": {"deformable": {"hidden": 16}},
        "box.cascade": {"ious": [0.7]},
        "box.context": {},
        "mask": {"head": {"convs": {"channels": [16]}}, "only_in_training": True},
    },
    "MegDetV2's segmenter": {
        "neck": {"fpn": {"channels": 16, "norm": "sync"}},
        "box.head": {"split": {"channels": [16], "hidden": 32}},
        "mask": {
            "head": {"residual": {"channels": [16], "norm": "sync"}},
            "rescore": {"channels": 16, "hidden": 32},
        },
        "stuff": {"num_classes": 3, "channels": 16},
    },
}  # fmt: skip


def section(changes: dict[str, object]) -> DetectorSection:
    """The tiny detector with dotted keys replaced."""
    content = copy.deepcopy(TINY_DETECTOR)
    for key, value in changes.items():
        *owners, last = key.split(".")
        place = content
        for owner in owners:
            place = place.setdefault(owner, {})
        place[last] = {**place[last], **value} if last in ("box", "rpn", "mask") and value else value
    return parse(DetectorSection, content, source="test")


def with_part(folder: str, name: str) -> DetectorSection:
    options = OPTIONS.get((folder, name), {})
    around = SURROUNDINGS.get((folder, name), {})
    if folder == "necks" and not around:
        neck = menu.pick("tis_ray.models.necks", "build", name, key="test")((8, 8, 8, 8), **options)
        around = {"anchors": {"exact": {"sizes": [[2 * stride] for stride in neck.strides]}}}
    return section({**around, KEYS[folder]: {name: options}})


CASES = {f"{folder}.{name}": with_part(folder, name) for folder, name in PARTS}
CASES |= {name: section(changes) for name, changes in SECTIONS.items()}
BACKBONES = menu.choices("tis_ray.models.backbones")


def build(parts: DetectorSection) -> Detector:
    torch.manual_seed(0)
    return build_detector(parts, LONG_TAIL)


@pytest.fixture(params=CASES)
def detector(request: pytest.FixtureRequest) -> Detector:
    return build(CASES[request.param])


def target(*boxes: tuple[int, int, int, int], labels: tuple[int, ...] = (), size: tuple[int, int] = SIZE) -> Target:
    """An image's; its left half is stuff 0, the right one is stuff 1."""
    corners = np.array(boxes, np.int32).reshape(-1, 4)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in corners)
    classes = np.array(labels or [i % 4 for i in range(len(corners))], np.int32)
    masks = CropMasks(corners[:, :2].copy(), crops)
    stuff = np.broadcast_to(np.arange(size[1]) >= size[1] // 2, size).astype(np.uint8)
    annotations = Annotations(corners.astype(np.float32), classes, masks, np.zeros(len(corners), np.bool_), stuff)
    return to_targets([annotations], [size], torch.device("cpu"))[0]


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """Coarse noise, so that places differ."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    coarse = torch.randint(0, 256, (3, -(-height // 8), -(-width // 8)), dtype=torch.uint8, generator=generator)
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]


OBJECTS = target((10, 10, 40, 30), (50, 20, 58, 28), (60, 40, 90, 60), (5, 40, 6, 41))


def step(detector: Detector, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    detector.zero_grad()
    losses = detector.train()(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    return losses


def reached(detector: Detector) -> Iterator[tuple[str, bool]]:
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            yield name, parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())


def assert_sound(detector: Detector, losses: dict[str, Tensor]) -> None:
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
    assert [name for name, fine in reached(detector) if not fine] == []


def outspoken(detector: Detector) -> Detector:
    """The same detector with masks that differ from each other before anything is learnt."""
    for module in detector.modules():
        if isinstance(module, OwnClassLogits):
            torch.nn.init.normal_(module.weight)
    return detector


def assert_same_masks(one: Detections, other: Detections, *, atol: float) -> None:
    for ours, theirs in zip(one[3:], other[3:], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def test_one_step_reaches_every_parameter(detector: Detector) -> None:
    losses = step(detector, [picture()], [OBJECTS])
    assert_sound(detector, losses)
    assert all(loss > 0 for loss in losses.values()), losses


def test_no_objects_and_tiny_pictures_are_learnt_from(detector: Detector) -> None:
    empty, whole = target(), target((0, 0, 96, 64))
    assert_sound(detector, step(detector, [picture(), picture(1)], [empty, OBJECTS]))
    assert_sound(detector, step(detector, [picture(), picture(1)], [empty, empty]))
    assert_sound(detector, step(detector, [picture()], [whole]))
    pixels = [target((1, 1, 2, 2), size=size) for size in ((3, 5), (5, 3))]
    # Two pictures: batch normalisation has no variance of a single value.
    assert_sound(detector, step(detector, [picture(0, (3, 5)), picture(1, (5, 3))], pixels))


def test_the_loss_falls_on_one_picture(detector: Detector) -> None:
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    sums = []
    for _ in range(20):
        losses = step(detector, [picture()], [OBJECTS])
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10)
        optimizer.step()
        sums.append(sum(loss.item() for loss in losses.values()))
    assert np.mean(sums[-3:]) < 0.95 * np.mean(sums[:3]), sums


@torch.inference_mode()
def test_a_batch_of_two_is_two_batches_of_one(detector: Detector) -> None:
    outspoken(detector).eval()
    pair = [picture(0), picture(1)]
    for together, alone in zip(detector(pair), [detector([one])[0] for one in pair], strict=True):
        assert len(together.boxes) == len(alone.boxes) > 0
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.boxes, alone.boxes, atol=1e-2, rtol=1e-3)
        assert_same_masks(together, alone, atol=1e-2)


@torch.inference_mode()
def test_pictures_smaller_than_a_stride_are_looked_at(detector: Detector) -> None:
    (found,) = detector.eval()([picture(0, (3, 2))])
    assert torch.isfinite(found.boxes).all()
    assert found.boxes.shape == (len(found.scores), 4)


@torch.inference_mode()
def test_no_proposals_are_no_detections(detector: Detector) -> None:
    detector.eval()
    batch, features = detector.look([picture(), picture(1)])
    found, _ = detector.roi_heads(features, [torch.zeros((0, 4))] * 2, batch.image_sizes)
    assert [len(one.boxes) for one in found] == [0, 0]


def test_a_checkpoint_brings_it_back(detector: Detector, request: pytest.FixtureRequest) -> None:
    again = build(CASES[request.node.callspec.params["detector"]])
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.fill_(0.1)
    again.load_state_dict(outspoken(detector).state_dict())
    with torch.inference_mode():
        (before,), (after,) = detector.eval()([picture()]), again.eval()([picture()])
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.scores, after.scores)
    assert_same_masks(before, after, atol=0)


def test_a_gpu_is_waited_for_in_nms_and_once_for_the_positives_of_each_mask_head(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NMS once an image in the first stage, and once in the second when testing."""
    for module in (pyramid_align, postprocess):
        monkeypatch.setattr(module, "waiting_is_free", lambda device: False)
    pair, targets = [picture(), picture(1)], [OBJECTS, target()]
    branch = detector.roi_heads.mask_branch
    with host_waits() as waits:
        losses = detector.train()(pair, targets)
        torch.stack(list(losses.values())).sum().backward()
    assert waits == {"torchvision::nms": 2} | ({} if branch is None else {"tolist": len(branch.heads)})
    with torch.no_grad(), host_waits() as waits:
        detector.eval()(pair)
    assert waits == {"torchvision::nms": 4}


@pytest.mark.parametrize("name", BACKBONES)
def test_one_step_reaches_every_parameter_of_a_backbone(name: str) -> None:
    detector = build(section({"backbone": name}))
    losses = step(detector, [picture()], [OBJECTS])
    assert_sound(detector, losses)
    with torch.inference_mode():
        assert len(detector.eval()([picture()])) == 1


@pytest.mark.parametrize("name", menu.choices("tis_ray.models.classification"))
def test_1203_classes_in_mixed_precision_stay_finite(name: str) -> None:
    table = classes(1203)
    many = Categories(
        table.ids, table.names, counts=tuple(range(1, 1204)), image_shares=tuple(i / 1e5 for i in range(1203))
    )
    torch.manual_seed(0)
    detector = build_detector(section({"box.classification": name}), many)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector.train()([picture()], [target((10, 10, 40, 30), (50, 20, 58, 28), labels=(0, 1202))])
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert_sound(detector, losses)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = detector.eval()([picture()])
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert torch.isfinite(found.scores).all()


@pytest.mark.parametrize("case", CASES)
def test_parts_are_checked_without_building_them(case: str) -> None:
    check_parts(CASES[case])
