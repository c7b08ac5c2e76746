"""The assembled detector: losses, gradients, odd inputs, and equality of its blocks with torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from tests.tiny import CATEGORIES, TINY_DETECTOR, tiny_recipe
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.assembly import build_detector, check_parts
from tis_ray.models.detector import Detector
from tis_ray.models.pyramid_align import Pyramid, PyramidRoIAlign
from tis_ray.models.roi_levels import fpn_levels
from tis_ray.models.targets import to_targets


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return build_detector(tiny_recipe().detector, CATEGORIES)


def annotations(*boxes: tuple[int, int, int, int], crowd: bool = False) -> Annotations:
    """Objects of class 1 whose masks fill their boxes."""
    corners = np.array(boxes, np.int32).reshape(-1, 4)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in corners)
    n = len(corners)
    masks = CropMasks(corners[:, :2].copy(), crops)
    return Annotations(corners.astype(np.float32), np.ones(n, np.int32), masks, np.full(n, crowd))


def random_image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def losses(detector: Detector, *batch: tuple[tuple[int, int], Annotations]) -> dict[str, torch.Tensor]:
    sizes = [size for size, _ in batch]
    targets = to_targets([one for _, one in batch], sizes, torch.device("cpu"))
    return detector.train()([random_image(*size) for size in sizes], targets)


@pytest.mark.parametrize(
    "batch",
    [
        [((64, 96), annotations((10, 10, 40, 30), (50, 20, 58, 28)))],
        [((64, 96), annotations())],
        [((64, 96), annotations((5, 5, 30, 30), crowd=True))],
        [((64, 96), annotations((3, 3, 4, 4)))],
        [((64, 96), annotations()), ((40, 30), annotations((1, 1, 29, 39)))],
    ],
    ids=["two objects", "no objects", "crowd alone", "one pixel", "a batch of two sizes"],
)
def test_losses_are_finite_and_reach_every_parameter(detector: Detector, batch: list) -> None:
    found = losses(detector, *batch)
    assert set(found) == {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
    }
    sum(found.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


OTHER_PARTS = {
    "neck": {"fpn": {"channels": 16, "norm": "batch"}},
    "anchors": "pyramid",
    "roi_levels": "pyramid",
    "rpn": {"convs": 2, "samples_per_image": 32},
    "box": {"head": {"convs": {"channels": [16], "hidden": 32, "norm": "batch"}}, "score_threshold": 0.0},
    "mask": {"head": {"convs": {"channels": [16], "norm": "batch"}}},
}


@pytest.mark.parametrize("boxes", [(), ((10, 10, 40, 30), (50, 20, 58, 28))], ids=["no objects", "two objects"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_other_parts_learn_and_find(boxes: tuple[tuple[int, int, int, int], ...], norm: str) -> None:
    """Pyramid Anchor and its levels, deeper heads, normalised; batch statistics outlive a step without objects."""
    torch.manual_seed(0)
    overrides = [f"neck.fpn.norm={norm}", f"box.head.convs.norm={norm}", f"mask.head.convs.norm={norm}"]
    section = parse(DetectorSection, {**TINY_DETECTOR, **OTHER_PARTS}, overrides, source="test")
    detector = build_detector(section, CATEGORIES)
    found = losses(detector, ((64, 96), annotations(*boxes)))
    sum(found.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(buffer).all() for buffer in detector.buffers())
    with torch.inference_mode():
        (one,) = detector.eval()([random_image(64, 96)])
    assert len(one.boxes) > 0
    assert torch.isfinite(one.boxes).all()


def test_labels_gain_a_background_class_and_crowds_are_left_out() -> None:
    both = annotations((0, 0, 4, 4), (5, 5, 9, 9))
    crowded = Annotations(both.boxes, np.array([0, 2], np.int32), both.masks, np.array([False, True]))
    (target,) = to_targets([crowded], [(20, 20)], torch.device("cpu"))
    assert target["labels"].tolist() == [1]
    assert target["boxes"].tolist() == [[0, 0, 4, 4]]


@torch.inference_mode()
def test_detections_have_the_promised_form(detector: Detector) -> None:
    found = detector.eval()([random_image(64, 96), random_image(33, 17)])
    for one, (height, width) in zip(found, [(64, 96), (33, 17)], strict=True):
        n = len(one.boxes)
        assert 0 < n <= 10
        assert one.mask_probs.shape == (n, 28, 28)
        assert one.labels.min() >= 1
        assert one.labels.max() <= 3
        assert (one.scores.diff() <= 0).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes <= torch.tensor([width, height, width, height])).all()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (31, 200)])
def test_images_smaller_than_a_stride_are_looked_at(detector: Detector, size: tuple[int, int]) -> None:
    (found,) = detector.eval()([random_image(*size)])
    assert len(found.scores) == len(found.boxes)


@torch.inference_mode()
def test_batch_of_two_equals_two_batches_of_one(detector: Detector) -> None:
    images = [random_image(64, 96), random_image(64, 96).flip(-1)]
    together = detector.eval()(images)
    alone = [detector([image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)


def test_autocast_keeps_boxes_in_float32(detector: Detector) -> None:
    """In bfloat16 a coordinate of 300 would move by up to a pixel."""
    batch = ((256, 320), annotations((210, 10, 301, 33)))
    image = random_image(256, 320)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses(detector, batch).values())
        with torch.inference_mode():
            (found,) = detector.eval()([image])
    assert found.boxes.dtype == torch.float32
    assert found.scores.dtype == torch.float32
    assert (found.boxes.bfloat16().float() != found.boxes).any()


def test_mask_branch_can_be_left_out() -> None:
    section = parse(DetectorSection, {**TINY_DETECTOR, "mask": None}, source="test")
    detector = build_detector(section, CATEGORIES)
    assert "loss_mask" not in losses(detector, ((64, 96), annotations((10, 10, 40, 30))))
    with torch.inference_mode():
        assert detector.eval()([random_image(64, 96)])[0].mask_probs is None


def test_first_mask_loss_is_that_of_not_knowing(detector: Detector) -> None:
    """Small first logits: torchvision's initialisation would start at several times ln 2."""
    found = losses(detector, ((64, 96), annotations((10, 10, 40, 30))))
    assert found["loss_mask"].item() == pytest.approx(np.log(2), abs=0.02)


def test_rois_are_pooled_on_the_true_strides_after_a_tiny_first_image() -> None:
    pool = PyramidRoIAlign(Pyramid(256, (4, 8, 16, 32), fpn_levels()), 7)
    sizes = [(33, 17), (128, 128)]
    for height, width in sizes:
        maps = {
            str(i): torch.rand(1, 4, -(-height // 32) * 32 // s, -(-width // 32) * 32 // s)
            for i, s in enumerate((4, 8, 16, 32))
        }
        box = torch.tensor([[1.0, 2.0, 15.0, 14.0]])
        expected = roi_align(maps["0"], [box], 7, spatial_scale=1 / 4, sampling_ratio=2)
        torch.testing.assert_close(pool(maps, [box], [(height, width)]), expected)


def test_loss_falls_on_one_image(detector: Detector) -> None:
    batch = ((64, 96), annotations((10, 10, 40, 30), (60, 30, 90, 60)))
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    history = []
    for step in range(40):
        torch.manual_seed(step)
        total = sum(losses(detector, batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert np.mean(history[-5:]) < 0.6 * np.mean(history[:5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet81"}, r"detector\.backbone: expected one of .*resnet18.*got 'resnet81'"),
        ({"backbone": {"resnet18": {"norn": "group"}}}, r"detector\.backbone\.resnet18\.norn: unknown key.*norm"),
        ({"backbone": {"resnet18": {"norm": "layer"}}}, r"detector\.backbone\.resnet18\.norm: .*'batch'"),
        ({"neck": "fnp"}, r"detector\.neck: expected one of .*fpn.*; got 'fnp'; did you mean 'fpn'"),
        ({"anchors": "pyramids"}, r"detector\.anchors: expected one of .*pyramid.*; got 'pyramids'"),
        ({"anchors": {"exact": {"sizes": [[8], [16]]}}}, r"detector\.anchors: expected 5 levels"),
        ({"anchors": {"exact": {"sizes": [[8], [16], [], [64], [128]]}}}, r"anchors\.exact\.sizes\.2: "),
        ({"anchors": {"torchvision": {"sizes": [[-8], [16], [32], [64], [128]]}}}, r"torchvision\.sizes\.0\.0: "),
        ({"anchors": {"exact": {"aspect_ratios": [0]}}}, r"anchors\.exact\.aspect_ratios\.0: "),
        ({"anchors": {"pyramid": {"base": 0}}}, r"anchors\.pyramid\.base: "),
        (
            {"roi_levels": "pyramid", "anchors": {"exact": {"sizes": [[8], [128], [16], [64], [32]]}}},
            r"detector\.roi_levels: pyramid expects anchors that grow from level to level; got \[\[8",
        ),
        ({"box": {"head": "convz"}}, r"detector\.box\.head: expected one of .*convs.*mlp.*; got 'convz'"),
        ({"box": {"head": {"mlp": {"hidden": 0}}}}, r"detector\.box\.head\.mlp\.hidden: "),
    ],
    ids=str,
)
def test_misspelt_parts_are_refused_with_the_choices(change: dict, message: str) -> None:
    section = parse(DetectorSection, {**TINY_DETECTOR, **change}, source="test")
    for judge in (check_parts, lambda section: build_detector(section, CATEGORIES)):
        with pytest.raises(ConfigError, match=message):
            judge(section)
