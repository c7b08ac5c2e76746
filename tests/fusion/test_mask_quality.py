"""The predicted fit of masks goes through the whole fusion with the masks, and changes nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from tis_ray.config import FusionSection
from tis_ray.fusion.fuse import fuse
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.two_pass import Merged, with_masks
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

VIEWS = [View("a", 400), View("a", 400, True), View("b", 400)]
BOX = [10.0, 20, 30, 40]
FAR = [60.0, 60, 90, 90]


def found(box: list[float], score: float, quality: float | None) -> Instances:
    boxes = np.float32([box])
    known = None if quality is None else np.float32([quality])
    return Instances.of(boxes, [score], [0], BoxMasks(boxes, np.ones((1, 4, 4), np.float16), quality=known))


def fused(*views: Instances, masks: object = "best", **keys: object) -> Instances:
    section = FusionSection.model_validate({"rules": ["nms"], "masks": masks, **keys})
    return fuse(dict(zip(VIEWS, views, strict=True)), section, image_hw=(100, 100))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ("best", 0.8),
        ("average", (0.8 + 0.6 + 0.1) / 3),
        ({"average": {"weights": "score"}}, (0.9 * 0.8 + 0.6 * 0.6 + 0.3 * 0.1) / 1.8),
        ({"average": {"k": 2, "of": "logit"}}, (0.8 + 0.6) / 2),
        ("vote", (0.9 * 0.8 + 0.6 * 0.6 + 0.3 * 0.1) / 1.8),
        ({"vote": {"iou": "mask"}}, (0.9 * 0.8 + 0.6 * 0.6 + 0.3 * 0.1) / 1.8),
        ({"scale_ratio": {"k": 1}}, (0.8 + 0.6 + 0.1) / 3),
    ],
)
def test_a_chosen_mask_brings_its_fit_and_a_mean_has_the_mean(masks: object, expected: float) -> None:
    answer = fused(found(BOX, 0.9, 0.8), found(BOX, 0.6, 0.6), found(BOX, 0.3, 0.1), masks=masks)
    np.testing.assert_allclose(answer.masks.quality, [expected], atol=1e-6)
    np.testing.assert_allclose(answer.mask_scores, [0.9 * expected], atol=1e-6)
    np.testing.assert_array_equal(answer.scores, np.float32([0.9]))


@pytest.mark.parametrize("rule", ["nms", "soft_nms", "mask_nms", "wbf", "nmw", {"vote": {"iou_threshold": 0.5}}])
def test_rules_leave_it_to_the_mask(rule: object) -> None:
    answer = fused(found(BOX, 0.9, 0.8), found(FAR, 0.6, 0.6), found(FAR, 0.3, None), rules=["nms", rule])
    by_place = dict(zip(answer.boxes[:, 0].tolist(), answer.masks.quality.tolist(), strict=True))
    assert by_place == pytest.approx({10.0: 0.8, 60.0: 0.6})


def test_a_member_that_predicts_none_counts_as_sure() -> None:
    answer = fused(found(BOX, 0.9, None), found(BOX, 0.6, None), found(FAR, 0.3, 0.1))
    assert answer.masks.quality.tolist() == pytest.approx([1, 0.1])
    assert fused(found(BOX, 0.9, None), found(BOX, 0.6, None), found(FAR, 0.3, None)).masks.quality is None


def test_a_lent_mask_brings_its_fit() -> None:
    answer = fused(found(BOX, 0.9, 0.5).without_masks(), found(BOX, 0.6, 0.6), found(FAR, 0.3, 0.1))
    assert answer.masks.quality.tolist() == pytest.approx([0.6, 0.1])


def test_boxes_scores_and_masks_are_those_of_a_fusion_that_knows_no_fit() -> None:
    views = [found(BOX, 0.9, 0.8), found([12, 20, 30, 40], 0.6, 0.6), found(FAR, 0.3, 0.1)]
    blind = [replace(one, masks=replace(one.masks, quality=None)) for one in views]
    for masks in ("best", "average", "vote", "scale_ratio"):
        one, other = fused(*views, masks=masks), fused(*blind, masks=masks)
        for name in ("boxes", "scores", "labels", "source"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
        np.testing.assert_array_equal(one.masks.probabilities, other.masks.probabilities, strict=True)


def test_the_second_pass_brings_the_fit_on_the_fused_boxes() -> None:
    boxes = Instances.of([BOX, FAR], [0.9, 0.5], [0, 0], source=[0, 0])
    pool = replace(Pool.of(boxes, views=VIEWS, image_hw=(100, 100)), masked=boxes[:0])
    patches = np.ones((2, 4, 4), np.float16)
    masks = {VIEWS[2]: BoxMasks(boxes.boxes, patches, quality=np.float32([0.4, 0.2]))}
    seen = with_masks(Merged(boxes, pool), masks, pasting="torchvision").pool.masked
    np.testing.assert_array_equal(seen.masks.quality, np.float32([0.4, 0.2]))
