"""Unlabelled objects: regions that show one are no background, positives are what they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.host_waits import host_waits
from tests.tiny import CATEGORIES, TINY_DETECTOR, tiny_recipe
from tis_ray.config import DetectorSection, parse
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.menu import choices
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.positives import Regions
from tis_ray.models.proposals import Level
from tis_ray.models.targets import Target, to_targets
from tis_ray.models.unlabelled import shows_unlabelled, without_unlabelled

HEIGHT, WIDTH = 64, 96
CPU = torch.device("cpu")
Corners = list[tuple[float, float, float, float]]


def target(objects: Corners, unlabelled: Corners | None) -> Target:
    boxes = np.array(objects, np.float32).reshape(-1, 4)
    crops = tuple(np.ones((int(y2 - y1), int(x2 - x1)), np.uint8) for x1, y1, x2, y2 in objects)
    annotations = Annotations(
        boxes,
        np.ones(len(boxes), np.int32),
        CropMasks(boxes[:, :2].astype(np.int32), crops),
        np.zeros(len(boxes), bool),
        unlabelled=None if unlabelled is None else np.array(unlabelled, np.float32).reshape(-1, 4),
    )
    (one,) = to_targets([annotations], [(HEIGHT, WIDTH)], CPU)
    return one


def detector_of(**sections: dict[str, object]) -> Detector:
    torch.manual_seed(0)
    content = {**TINY_DETECTOR, **{key: {**TINY_DETECTOR[key], **value} for key, value in sections.items()}}
    return build_detector(parse(DetectorSection, content, source="test"), CATEGORIES).train()


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return build_detector(tiny_recipe().detector, CATEGORIES).train()


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(wide, 0) * max(high, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def random_boxes(count: int, *, seed: int) -> Tensor:
    corner = torch.rand((count, 2), generator=torch.Generator().manual_seed(seed)) * torch.tensor([60.0, 40])
    sides = 4 + torch.rand((count, 2), generator=torch.Generator().manual_seed(seed + 1)) * 24
    return torch.cat([corner, corner + sides], dim=1)


# ------------------------------------------------------------------------------------------------ Which show one


def test_boxes_show_what_they_overlap_by_the_bound() -> None:
    boxes, unlabelled = random_boxes(400, seed=0), random_boxes(7, seed=5)
    found = shows_unlabelled(boxes, unlabelled, iou=0.3)
    expected = [any(iou(one, other) >= 0.3 for other in unlabelled.tolist()) for one in boxes.tolist()]
    assert found.tolist() == expected
    assert 0 < found.sum() < 400


def test_nothing_is_shown_where_there_is_nothing() -> None:
    boxes = random_boxes(3, seed=0)
    labels = torch.tensor([0, 1, 0])
    assert shows_unlabelled(boxes, torch.zeros((0, 4))).tolist() == [False] * 3
    assert shows_unlabelled(boxes[:0], boxes).tolist() == []
    assert without_unlabelled(labels, boxes, torch.zeros((0, 4))) is labels


def test_only_negatives_are_left_out() -> None:
    boxes = torch.tensor([[20.0, 0, 30, 8]] * 3 + [[20, 0, 30, 4]] * 3)
    labels = torch.tensor([0, 3, -1] * 2)
    found = without_unlabelled(labels, boxes, torch.tensor([[20.0, 0, 30, 10]]))
    assert found.tolist() == [-1, 3, -1, 0, 3, -1]
    assert labels.tolist() == [0, 3, -1] * 2


# ----------------------------------------------------------------------------------------------------- Targets


@pytest.mark.parametrize("unlabelled", [None, []])
def test_a_target_without_unlabelled_boxes_has_none(unlabelled: Corners | None) -> None:
    assert target([(10, 10, 20, 20)], unlabelled)["unlabelled"].shape == (0, 4)


def test_boxes_that_a_crop_has_cut_away_are_left_out() -> None:
    one = target([], [(4, 4, 9, 9), (96, 5, 96, 9), (3, 64, 8, 64)])
    assert one["unlabelled"].tolist() == [[4, 4, 9, 9]]
    assert one["unlabelled"].dtype == torch.float32


# ----------------------------------------------------------------------------------------------------- Regions


@pytest.mark.parametrize("sampling", choices("tis_ray.models.roi_sampling"))
def test_proposals_by_hand(sampling: str) -> None:
    """An IoU of 0.9 with the object, of 0.8 and of 0.4 with the unlabelled one, and nothing."""
    heads = detector_of(box={"sampling": sampling, "samples_per_image": 100, "positive_fraction": 1.0}).roi_heads
    proposals = torch.tensor([[0.0, 0, 10, 9], [20, 0, 30, 8], [20, 0, 30, 4], [40, 0, 50, 10]])
    one = target([(0, 0, 10, 10)], [(20, 0, 30, 10)])
    chosen = heads.choose(proposals, one)
    counted = chosen.labels >= 0
    found = zip(chosen.boxes[counted].tolist(), chosen.labels[counted].tolist(), strict=True)
    assert sorted((*box, label) for box, label in found) == [
        (0, 0, 10, 9, 2), (0, 0, 10, 10, 2), (20, 0, 30, 4, 0), (40, 0, 50, 10, 0)
    ]  # fmt: skip
    before = heads.choose(proposals, target([(0, 0, 10, 10)], None))
    assert (before.labels == 0).sum() == 3


def test_regions_are_never_drawn_as_negatives_where_they_show_one(detector: Detector) -> None:
    proposals = random_boxes(500, seed=1)
    hidden = [(20.0, 20.0, 40.0, 40.0), (50.0, 10.0, 70.0, 30.0)]
    chosen = detector.roi_heads.choose(proposals, target([(4, 4, 20, 20)], hidden))
    assert (chosen.labels == 0).any()
    assert not shows_unlabelled(chosen.boxes[chosen.labels == 0], torch.tensor(hidden)).any()


def test_a_positive_counts_though_it_shows_one_too(detector: Detector) -> None:
    place = (10.0, 10.0, 40.0, 40.0)
    chosen = detector.roi_heads.choose(torch.tensor([place]), target([(10, 10, 40, 40)], [place]))
    assert chosen.labels.tolist() == [2, 2]


def test_a_later_stage_leaves_out_what_was_refined_onto_one() -> None:
    """Places that did not count before still do not, and positives are found by the stage's own bound."""
    heads = detector_of(box={"cascade": {}}).roi_heads
    one = target([(0, 0, 10, 10)], [(20, 0, 30, 10)])
    refined = torch.tensor([[20.0, 0, 30, 9], [20, 0, 30, 4], [0, 0, 10, 9], [0, 0, 10, 9], [40, 0, 50, 10]])
    before = Regions(refined, torch.zeros(5, dtype=torch.int64), torch.tensor([0, 0, 0, -1, -1]))
    (found,) = heads._relabelled([refined], [before], [one], 0.6)
    assert found.labels.tolist() == [-1, 0, 2, -1, -1]


def test_an_image_of_unlabelled_objects_alone_teaches_no_class(detector: Detector) -> None:
    """Every region that the heads could learn from shows one, so nothing is averaged over."""
    proposals = torch.tensor([[10.0, 10, 40, 40], [11, 10, 40, 40]])
    chosen = detector.roi_heads.choose(proposals, target([], [(10, 10, 40, 40)]))
    assert chosen.labels.tolist() == [-1, -1]


# ----------------------------------------------------------------------------------------------------- Anchors


def levels_of(detector: Detector) -> list[Level]:
    batch = detector._batch([torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)])
    return detector.rpn.levels(batch, list(detector.neck(detector.backbone(batch.tensors)).values()))


def test_anchors_ask_for_no_unlabelled_objects_unless_told_to(detector: Detector) -> None:
    anchors = torch.cat([level.anchors for level in levels_of(detector)])
    objects, hidden = [(32.0, 16.0, 48.0, 32.0)], [(8.0, 8.0, 24.0, 25.0), (32.0, 16.0, 48.0, 33.0)]
    plain, _ = detector.rpn.labels(anchors, target(objects, None))
    same, _ = detector.rpn.labels(anchors, target(objects, hidden))
    assert torch.equal(same, plain)
    asking = detector_of(rpn={"unlabelled_iou": 0.7})
    labels, _ = asking.rpn.labels(anchors, target(objects, hidden))
    shown = torch.tensor([any(iou(one, list(box)) >= 0.7 for box in hidden) for one in anchors.tolist()])
    assert torch.equal(labels, torch.where((plain == 0) & shown, -1, plain))
    assert (labels != plain).any()
    assert (labels[shown] == 1).any()


# ------------------------------------------------------------------------------------------------------- Losses


@pytest.mark.parametrize("sections", [{}, {"rpn": {"unlabelled_iou": 0.7}}, {"box": {"cascade": {}}}])
@pytest.mark.parametrize("objects", [[], [(10.0, 10.0, 40.0, 30.0)]])
def test_losses_are_finite_and_wait_for_nothing_more(objects: Corners, sections: dict[str, dict[str, object]]) -> None:
    detector = detector_of(**sections)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    waits = {}
    for hidden in ([], [(50.0, 10.0, 80.0, 50.0), (0.0, 0.0, 96.0, 64.0)]):
        one = target(objects, hidden)
        with host_waits() as found:
            losses = detector([image], [one])
        waits[len(hidden)] = dict(found)
        assert all(torch.isfinite(loss) for loss in losses.values())
    assert waits[2] == waits[0]


def test_a_recipe_without_unlabelled_boxes_learns_the_same_bits(detector: Detector) -> None:
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    seen = []
    for hidden in (None, []):
        torch.manual_seed(0)
        losses = detector([image], [target([(10, 10, 40, 30)], hidden)])
        seen.append({name: loss.item() for name, loss in losses.items()})
    assert seen[0] == seen[1]


def test_annotations_keep_their_unlabelled_boxes_when_some_objects_are_taken() -> None:
    one = Annotations(
        np.zeros((2, 4), np.float32),
        np.zeros(2, np.int32),
        CropMasks(np.zeros((2, 2), np.int32), (np.ones((1, 1), np.uint8),) * 2),
        np.zeros(2, bool),
    )
    kept = replace(one, unlabelled=np.ones((3, 4), np.float32))[[0]]
    assert kept.unlabelled.shape == (3, 4)
