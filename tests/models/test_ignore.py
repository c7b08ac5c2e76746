"""Ignore regions: how much of a box they cover, and that nothing in them is learnt as background."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import CATEGORIES, tiny_recipe
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.ignore import CELL_PX, IGNORED_SHARE, IgnoreMap, without_ignored
from tis_ray.models.proposals import Level
from tis_ray.models.targets import Target, to_targets

HEIGHT, WIDTH = 64, 96
CPU = torch.device("cpu")
Crowd = list[tuple[int, int, int, int]]


def filled(boxes: list[tuple[int, int, int, int]]) -> CropMasks:
    """Masks that fill these xyxy boxes."""
    offsets = np.array([box[:2] for box in boxes], np.int32).reshape(-1, 2)
    return CropMasks(offsets, tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in boxes))


def scattered(rng: np.random.Generator, count: int, *, height: int, width: int) -> tuple[CropMasks, np.ndarray]:
    """Overlapping regions of blocks and holes, and their union as a full mask."""
    union = np.zeros((height, width), np.uint8)
    crops, offsets = [], []
    for _ in range(count):
        h, w = int(rng.integers(1, height)), int(rng.integers(1, width))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        coarse = rng.random((-(-h // 7), -(-w // 7))) < 0.4
        crops.append(np.kron(coarse, np.ones((7, 7)))[:h, :w].astype(np.uint8))
        offsets.append((x, y))
        union[y : y + h, x : x + w] |= crops[-1]
    return CropMasks(np.array(offsets, np.int32).reshape(-1, 2), tuple(crops)), union


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of 0.5 to 60 px, some of them partly outside of the image."""
    corner = rng.uniform(-20, 90, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, 60, (count, 2))], axis=1)


def covered(density: np.ndarray, box: np.ndarray, *, cell: int) -> float:
    """Ignored pixels in a box, cell by cell: the share of each cell inside the box times what the cell holds."""
    rows, columns = density.shape
    x, y = np.arange(columns) * cell, np.arange(rows) * cell
    wide = (np.minimum(x + cell, box[2]) - np.maximum(x, box[0])).clip(0)
    high = (np.minimum(y + cell, box[3]) - np.maximum(y, box[1])).clip(0)
    return float(high @ density @ wide)


@pytest.mark.parametrize("size_hw", [(64, 96), (61, 94), (3, 5), (1, 1)])
@pytest.mark.parametrize("count", [1, 5])
def test_shares_are_those_of_evenly_filled_cells(size_hw: tuple[int, int], count: int) -> None:
    height, width = size_hw
    rng = np.random.default_rng(count)
    regions, union = scattered(rng, count, height=height + 1, width=width + 1)  # a pixel sticks out
    union = union[:height, :width]
    padded = np.pad(union, [(0, -height % CELL_PX), (0, -width % CELL_PX)]).astype(float)
    cells = padded.reshape(padded.shape[0] // CELL_PX, CELL_PX, padded.shape[1] // CELL_PX, CELL_PX).mean(axis=(1, 3))
    boxes = random_boxes(rng, 300)
    ignore = IgnoreMap.of(regions, size_hw, CPU)
    if not union.any():
        assert ignore is None
        return
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    expected = np.array([covered(cells, box, cell=CELL_PX) for box in boxes]) / area
    np.testing.assert_allclose(ignore.shares(torch.from_numpy(boxes)).numpy(), expected, atol=1e-9)


def test_shares_are_close_to_those_of_the_very_pixels() -> None:
    """Only the cells on a box's edge are estimated, and those along a whole cell's edge are exact."""
    rng = np.random.default_rng(0)
    regions, union = scattered(rng, 4, height=HEIGHT, width=WIDTH)
    ignore = IgnoreMap.of(regions, (HEIGHT, WIDTH), CPU)
    corner = rng.integers(0, 10, (300, 2)) * CELL_PX
    aligned = np.concatenate([corner, corner + rng.integers(1, 6, (300, 2)) * CELL_PX], axis=1)
    exact = [union[y1:y2, x1:x2].sum() / ((x2 - x1) * (y2 - y1)) for x1, y1, x2, y2 in aligned]
    np.testing.assert_array_equal(ignore.shares(torch.from_numpy(aligned)).numpy(), exact)
    boxes = random_boxes(rng, 300)
    sides = boxes[:, 2:] - boxes[:, :2]
    pixels = [covered(union.astype(float), box, cell=1) for box in boxes]
    wrong = np.abs(ignore.shares(torch.from_numpy(boxes)).numpy() * sides.prod(axis=1) - pixels)
    assert (wrong <= 2 * CELL_PX * sides.sum(axis=1)).all()
    assert wrong.mean() < 3


def test_boxes_of_a_few_pixels_are_told_apart_in_a_frame_of_many() -> None:
    """In float32 the integral of a large frame would be off by several pixels."""
    height, width = 6000, 8000
    ignore = IgnoreMap.of(filled([(0, 0, 8000, 5000)]), (height, width), CPU)
    boxes = torch.tensor([[7980.0, 4990, 7984, 4994], [7980.0, 4998, 7984, 5002], [7980.0, 5000, 7984, 5004]])
    assert ignore.shares(boxes).tolist() == [1, 0.5, 0]


def test_boxes_without_area_are_not_ignored() -> None:
    ignore = IgnoreMap.of(filled([(0, 0, WIDTH, HEIGHT)]), (HEIGHT, WIDTH), CPU)
    assert ignore.shares(torch.tensor([[5.0, 5, 5, 9], [5, 5, 9, 5]])).tolist() == [0, 0]
    assert ignore.shares(torch.zeros(0, 4)).shape == (0,)


@pytest.mark.parametrize(
    "regions",
    [filled([]), CropMasks(np.zeros((1, 2), np.int32), (np.zeros((0, 0), np.uint8),)), filled([(96, 0, 99, 9)])],
    ids=["no region", "a region without pixels", "a region outside"],
)
def test_an_image_without_ignored_pixels_has_no_map(regions: CropMasks) -> None:
    assert IgnoreMap.of(regions, (HEIGHT, WIDTH), CPU) is None


def test_only_negatives_that_lie_half_inside_are_left_out() -> None:
    ignore = IgnoreMap.of(filled([(0, 0, 40, 40)]), (HEIGHT, WIDTH), CPU)
    inside, half, less = [0.0, 0, 20, 20], [20.0, 0, 60, 40], [24.0, 0, 64, 40]
    boxes = torch.tensor([inside, half, less] * 3)
    labels = torch.tensor([0, 0, 0, 3, 3, 3, -1, -1, -1])
    assert without_ignored(labels, boxes, ignore).tolist() == [-1, -1, 0, 3, 3, 3, -1, -1, -1]
    assert labels[0] == 0
    assert without_ignored(labels, boxes, None) is labels


# ------------------------------------------------------------------------------------------- In the detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return build_detector(tiny_recipe().detector, CATEGORIES).train()


def target(objects: Crowd, crowds: Crowd) -> Target:
    boxes = np.array([*objects, *crowds], np.float32).reshape(-1, 4)
    crowd = np.arange(len(boxes)) >= len(objects)
    labels = np.where(crowd, -1, 1).astype(np.int32)
    (one,) = to_targets([Annotations(boxes, labels, filled([*objects, *crowds]), crowd)], [(HEIGHT, WIDTH)], CPU)
    return one


def levels_of(detector: Detector) -> list[Level]:
    batch = detector._batch([torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)])
    return detector.rpn.levels(batch, list(detector.neck(detector.backbone(batch.tensors)).values()))


def anchors_of(detector: Detector) -> Tensor:
    return torch.cat([level.anchors for level in levels_of(detector)])


def test_crowds_become_an_ignore_map_and_no_object() -> None:
    one = target([(10, 10, 20, 20)], [(40, 40, 60, 60)])
    assert one["boxes"].tolist() == [[10, 10, 20, 20]]
    assert one["labels"].tolist() == [2]
    assert one["ignore"].shares(torch.tensor([[40.0, 40, 60, 60], [10, 10, 20, 20]])).tolist() == [1, 0]
    assert target([(10, 10, 20, 20)], [])["ignore"] is None


def test_anchors_in_ignore_regions_are_neither_positive_nor_negative(detector: Detector) -> None:
    crowd = (32, 0, 96, 64)
    anchors = anchors_of(detector)
    objects = [(36, 20, 52, 36), (4, 4, 12, 12)]
    without, _ = detector.rpn.labels(anchors, target(objects, []))
    labels, _ = detector.rpn.labels(anchors, target(objects, [crowd]))
    x1, y1, x2, y2 = anchors.unbind(dim=1)
    inside = (x2.clamp(max=96) - x1.clamp(min=32)).clamp(min=0) * (y2.clamp(max=64) - y1.clamp(min=0)).clamp(min=0)
    ignored = inside / ((x2 - x1) * (y2 - y1)) >= IGNORED_SHARE
    assert torch.equal(labels, torch.where((without == 0) & ignored, -1, without))
    assert (labels[ignored] == 1).any()  # the object in the region is still learnt
    assert (labels == 0).any()


def test_rois_in_ignore_regions_are_never_drawn_as_negatives(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    proposals = torch.from_numpy(random_boxes(rng, 500)).float()
    proposals[:, 0::2].clamp_(0, WIDTH)
    proposals[:, 1::2].clamp_(0, HEIGHT)
    one = target([(40, 20, 60, 40)], [(32, 0, 96, 64)])
    rois, _, labels = detector.roi_heads.choose(proposals, one)
    assert (labels == 0).any()
    assert (labels == 2).any()
    assert (one["ignore"].shares(rois[labels == 0]) < IGNORED_SHARE).all()
    assert one["ignore"].shares(rois[labels == 2]).max() == 1


def test_losses_do_not_depend_on_what_is_predicted_in_ignore_regions(detector: Detector) -> None:
    """The logits of the anchors inside may be anything: an unlabelled object there is neither found nor missed."""
    levels, one = levels_of(detector), target([(4, 4, 12, 12)], [(32, 0, 96, 64)])

    def losses(inside: float) -> list[float]:
        torch.manual_seed(0)
        said = []
        for level in levels:
            ignored = one["ignore"].shares(level.anchors) >= IGNORED_SHARE
            said.append(level._replace(logits=torch.where(ignored, inside, torch.linspace(-3, 3, len(ignored)))[None]))
        return [loss.item() for loss in detector.rpn.losses(said, [one]).values()]

    assert losses(30.0) == losses(-30.0)


WHOLE = (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("objects", "crowds"),
    [([], [WHOLE]), ([(10, 10, 40, 30)], [WHOLE]), ([(10, 10, 40, 30)], [(0, 0, 96, 32), (30, 20, 60, 64)])],
    ids=["nothing but a crowd", "an object in a crowd of the whole image", "overlapping crowds"],
)
def test_losses_are_finite_and_reach_every_parameter(detector: Detector, objects: Crowd, crowds: Crowd) -> None:
    torch.manual_seed(0)
    detector.zero_grad()
    found = detector([torch.randint(0, 256, (3, HEIGHT, WIDTH)).to(torch.uint8)], [target(objects, crowds)])
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in found.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())


def test_an_image_that_is_ignored_throughout_teaches_no_background(detector: Detector) -> None:
    """Some anchors reach so far beyond the image that they stay negatives; the RoIs, which do not, are all left out."""
    found = detector([torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)], [target([], [WHOLE])])
    assert [found[name].item() for name in ("loss_classifier", "loss_box_reg", "loss_mask")] == [0, 0, 0]


def test_no_anchor_to_learn_from_gives_losses_of_zero_that_reach_the_weights(detector: Detector) -> None:
    anchors = torch.tensor([[8.0, 8, 16, 16], [0, 0, 40, 40], [50, 20, 58, 28]])
    logits, deltas = torch.ones(1, 3, requires_grad=True), torch.ones(1, 3, 4, requires_grad=True)
    losses = detector.rpn.losses([Level(logits, deltas, anchors)], [target([], [WHOLE])])
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert not logits.grad.any()
    assert not deltas.grad.any()
