"""The predicted fit of masks: what it is learnt from, what it sees, and that it reaches the detections."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.host_waits import host_waits
from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models import pyramid_align
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.mask_iou import MaskIoU, iou_loss, iou_with_whole
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.models.positives import Regions, positives
from tis_ray.models.targets import Target, to_targets

SIZE = (64, 96)


def head(*, size: int = 6, num_classes: int = 3, convs: int = 2) -> MaskIoU:
    torch.manual_seed(0)
    return MaskIoU(8, size, num_classes, convs=convs, channels=16, hidden=32)


# --------------------------------------------------------------------------------------------- What is learnt


def test_the_iou_is_that_with_the_whole_object() -> None:
    """A mask of two rows of four, an object of 3 x 3 cells that is three quarters of all of it."""
    probs, truth = torch.zeros((1, 4, 4)), torch.zeros((1, 4, 4))
    probs[:, :2], truth[:, :3, :3] = 1, 1
    assert iou_with_whole(probs, truth, torch.tensor([0.75])).item() == pytest.approx(6 / 14)
    assert iou_with_whole(probs, truth, torch.tensor([1.0])).item() == pytest.approx(6 / 11)


@pytest.mark.parametrize(
    ("mask", "truth", "inside"), [(0, 1, 1), (1, 0, 0), (0, 0, 0)], ids=["no mask", "no object", "neither"]
)
def test_what_does_not_meet_its_object_has_an_iou_of_zero(mask: int, truth: int, inside: int) -> None:
    full = torch.ones((1, 4, 4))
    assert iou_with_whole(full * mask, full * truth, torch.tensor([float(inside)])).tolist() == [0]


def test_the_loss_is_half_the_mean_squared_error_of_masks_that_meet_their_object() -> None:
    predicted, ious = torch.tensor([0.5, 0.8]), torch.tensor([0.6, 0.5])
    assert iou_loss(predicted, ious).item() == pytest.approx(0.025)
    assert iou_loss(torch.cat([predicted, torch.ones(2)]), F.pad(ious, (0, 2))).item() == pytest.approx(0.025)


def test_the_loss_of_none_is_zero_and_reaches_all_weights() -> None:
    iou = head()
    nothing = torch.zeros(0)
    loss = iou.loss(
        torch.zeros((0, 8, 6, 6)), torch.zeros((0, 12, 12)), nothing.long(), targets=torch.zeros((0, 12, 12)),
        inside=nothing,
    )  # fmt: skip
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in iou.parameters())


def test_it_learns_how_well_masks_fit() -> None:
    """Masks of the left half; the object is the left half, or is twice as large."""
    iou = head()
    regions = torch.zeros((2, 8, 6, 6))
    regions[1] = 1
    probs, targets = torch.zeros((2, 12, 12)), torch.ones((2, 12, 12))
    probs[:, :, :6], targets[0, :, 6:] = 1, 0
    optimizer = torch.optim.Adam(iou.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        iou.loss(regions, probs, torch.tensor([1, 3]), targets=targets, inside=torch.ones(2)).backward()
        optimizer.step()
    torch.testing.assert_close(iou(regions, probs, torch.tensor([1, 3])), torch.tensor([1, 0.5]), atol=0.05, rtol=0)


# ----------------------------------------------------------------------------------------------- What is seen


def test_only_the_row_of_the_own_class_is_asked() -> None:
    iou = head()
    with torch.no_grad():
        iou.iou.weight.normal_()
        iou.iou.bias.normal_()
    regions, probs, labels = torch.randn((5, 8, 6, 6)), torch.rand((5, 12, 12)), torch.tensor([1, 3, 2, 3, 1])
    features = torch.cat([regions, F.max_pool2d(probs[:, None], 2)], dim=1)
    for conv in iou.convs:
        features = conv(features).relu()
    rows = iou.iou(iou.fc2(iou.fc1(features.flatten(1)).relu()).relu())  # (5, background and 3 classes)
    torch.testing.assert_close(iou(regions, probs, labels), rows[torch.arange(5), labels])
    iou(regions, probs, torch.full((5,), 2)).sum().backward()
    assert iou.iou.weight.grad.any(dim=1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("masks", [6, 12, 24], ids=["as coarse as regions", "twice as fine", "four times"])
def test_masks_are_brought_to_the_side_of_regions_and_learn_nothing(masks: int) -> None:
    probs = torch.rand((2, masks, masks), requires_grad=True)
    head()(torch.randn((2, 8, 6, 6)), probs, torch.tensor([1, 2])).sum().backward()
    assert probs.grad is None


@pytest.mark.parametrize(("size", "convs"), [(3, 1), (6, 2), (14, 4)])
def test_odd_sides_and_any_number_of_convolutions(size: int, convs: int) -> None:
    found = head(size=size, convs=convs)(torch.randn((2, 8, size, size)), torch.rand((2, 28, 28)), torch.tensor([1, 2]))
    assert found.shape == (2,)


def test_predictions_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head()(torch.randn((2, 8, 6, 6)), torch.rand((2, 12, 12)), torch.tensor([1, 2])).dtype == torch.float32


# ------------------------------------------------------------------------------------- The share within a region


def ellipse(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2) < 1).astype(np.uint8)


def packed() -> tuple[PackedCrops, Tensor]:
    """A square of 4 px, an ellipse and an empty mask, and the same as pixels of the image."""
    masks = CropMasks(
        np.array([(50, 20), (5, 3), (0, 0)], np.int32),
        (np.ones((4, 4), np.uint8), ellipse(40, 30), np.zeros((2, 2), np.uint8)),
    )
    full = torch.zeros((3, *SIZE))
    for mask, (x, y), crop in zip(full, masks.offsets.tolist(), masks.crops, strict=True):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = torch.from_numpy(crop)
    return PackedCrops.pack(masks, SIZE), full


def test_the_share_of_an_object_in_a_region_is_that_of_its_pixels() -> None:
    crops, full = packed()
    rois = torch.tensor(
        [
            [50, 20, 54, 24],
            [50, 20, 52, 24],
            [40, 10, 60, 30],
            [0, 0, 5, 5],
            [5, 3, 45, 33],
            [5, 3, 25, 33],
            [9, 9, 30, 40],
        ]
    )
    index = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    expected = [
        full[i, y1:y2, x1:x2].sum() / full[i].sum() for i, (x1, y1, x2, y2) in zip(index, rois.tolist(), strict=True)
    ]
    found = crops.inside(rois.float(), index, 28)
    torch.testing.assert_close(found, torch.stack(expected), atol=0.03, rtol=0)
    assert found[0] == 1


@pytest.mark.parametrize("wide", [20, 10, 5])
def test_a_perfect_mask_of_a_part_is_said_to_fit_as_much_as_the_part_is(wide: int) -> None:
    square = CropMasks(np.array([(30, 20)], np.int32), (np.ones((20, 20), np.uint8),))
    found = target_of(square)
    region = Regions(torch.tensor([[30.0, 20, 30 + wide, 40]]), torch.tensor([0]), torch.tensor([1]))
    shown = positives([region], [found], size=28, most=4, inside=True)
    assert shown.inside.item() == pytest.approx(wide / 20)
    ious = iou_with_whole(shown.targets, shown.targets, shown.inside)
    assert ious.item() == pytest.approx(wide / 20)
    assert positives([region], [found], size=28, most=4).inside is None


def test_a_mask_without_pixels_has_no_share_anywhere() -> None:
    crops, _ = packed()
    assert crops.inside(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([2]), 14).tolist() == [0]
    nothing = PackedCrops.pack(CropMasks(np.zeros((1, 2), np.int32), (np.zeros((0, 0), np.uint8),)), SIZE)
    assert nothing.inside(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), 14).tolist() == [0]


# ------------------------------------------------------------------------------------------------ In a detector

RESCORED = {"head": {"convs": {"channels": [16]}}, "rescore": {"channels": 16, "hidden": 32}}
CASCADE = {**TINY_DETECTOR["box"], "cascade": {"ious": [0.6, 0.7], "loss_weights": [1, 0.5, 0.25]}}
CASES = {
    "plain": {"mask": RESCORED},
    "masks as coarse as regions": {"mask": {**RESCORED, "head": {"convs": {"channels": [16], "upsample": False}}}},
    "hybrid task cascade": {"mask": {**RESCORED, "cascade": {}}, "box": CASCADE},
    "one level": {
        "neck": "c4",
        "backbone": "resnet18",
        "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
        "box": {**TINY_DETECTOR["box"], "head": "average", "pool_size": 6},
        "mask": {**RESCORED, "pool_size": 6},
    },
}


def detector(**sections: object) -> Detector:
    torch.manual_seed(0)
    return build_detector(parse(DetectorSection, {**TINY_DETECTOR, **sections}, source="test"), CATEGORIES)


def target_of(masks: CropMasks) -> Target:
    sides = np.array([crop.shape[::-1] for crop in masks.crops], np.int32).reshape(-1, 2)
    boxes = np.concatenate([masks.offsets, masks.offsets + sides], axis=1).astype(np.float32)
    labels, none = np.arange(len(masks), dtype=np.int32) % 3, np.zeros(len(masks), np.bool_)
    return to_targets([Annotations(boxes, labels, masks, none)], [SIZE], torch.device("cpu"))[0]


def target(*boxes: tuple[int, int, int, int]) -> Target:
    corners = np.array(boxes, np.int32).reshape(-1, 4)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in corners)
    return target_of(CropMasks(corners[:, :2].copy(), crops))


OBJECTS = target((10, 10, 40, 30), (50, 20, 58, 28), (60, 40, 90, 60))
IMAGE = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", CASES)
def test_detections_say_how_well_their_masks_fit(case: str) -> None:
    model = detector(**CASES[case]).eval()
    with torch.no_grad():
        model.roi_heads.mask_branch.rescore.iou.bias.copy_(torch.tensor([0, 0.3, -1, 2]))
        (found,) = model([IMAGE])
        (nothing,) = model.segment(*features(model), [torch.zeros((0, 4))], [torch.zeros(0).long()], [SIZE])
    assert len(found.boxes) > 0
    expected = torch.tensor([0, 0.3, 0, 1])[found.labels]
    torch.testing.assert_close(found.mask_quality, expected, atol=0.2, rtol=0)
    assert ((found.mask_quality >= 0) & (found.mask_quality <= 1)).all()
    assert (nothing.probs.shape[0], nothing.quality.shape) == (0, (0,))


def features(model: Detector) -> tuple[dict[str, Tensor]]:
    return (model.look([IMAGE]).features,)


def test_boxes_scores_and_masks_are_those_of_a_detector_that_does_not_rescore() -> None:
    rescored, plain = detector(mask=RESCORED).eval(), detector().eval()
    plain.load_state_dict({name: value for name, value in rescored.state_dict().items() if ".rescore." not in name})
    with torch.no_grad():
        (with_quality,), (without,) = rescored([IMAGE]), plain([IMAGE])
    for one, other in zip(with_quality[:4], without[:4], strict=True):
        assert torch.equal(one, other)
    assert without.mask_quality is None


@pytest.mark.parametrize("case", CASES)
def test_the_loss_reaches_all_weights_with_and_without_objects(case: str) -> None:
    model = detector(**CASES[case]).train()
    name = "loss_mask_iou_3" if case == "hybrid task cascade" else "loss_mask_iou"
    mixed = case != "one level"  # a ResNet in bfloat16 takes some processors half a minute
    for objects in (OBJECTS, target()):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses = model([IMAGE, IMAGE], [objects, objects])
        assert [one for one in losses if one.startswith("loss_mask_iou")] == [name]
        assert losses[name].dtype == torch.float32
        assert (losses[name] > 0) == (objects is OBJECTS)
        torch.stack(list(losses.values())).sum().backward()
        assert all(parameter.grad is not None for parameter in model.roi_heads.mask_branch.parameters())


def test_the_masks_learn_nothing_from_the_predicted_fit() -> None:
    model = detector(mask=RESCORED).train()
    model([IMAGE], [OBJECTS])["loss_mask_iou"].backward()
    branch = model.roi_heads.mask_branch
    assert all(parameter.grad is None for parameter in branch.heads.parameters())
    assert all(parameter.grad is not None for parameter in branch.rescore.parameters())


def test_a_step_waits_for_the_number_of_positives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid_align, "waiting_is_free", lambda device: False)
    model = detector(mask=RESCORED).train()
    with host_waits() as waits:
        losses = model([IMAGE, IMAGE], [OBJECTS, OBJECTS])
        torch.stack(list(losses.values())).sum().backward()
    assert waits == {"torchvision::nms": 2, "tolist": 1}


def test_a_fit_that_nobody_would_see_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rescore: expected nothing beside only_in_training"):
        detector(mask={**RESCORED, "only_in_training": True})
