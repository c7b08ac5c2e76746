"""Masks that views predict for the fused boxes, chosen by every policy, and who is asked for what."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.config import FusionSection
from tis_ray.errors import InputError
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

DET, FLIP, SEG, STRIP = (
    View("det", 400),
    View("det", 400, True),
    View("seg", 600),
    View("seg", 600, crop=(0, 0, 50, 50), crop_name="s"),
)
VIEWS = [DET, FLIP, SEG, STRIP]
HW = (100, 100)
POLICIES = [
    "best",
    "average",
    {"average": {"weights": "score", "k": 9}},
    "scale_ratio",
    "vote",
    {"vote": {"iou": "mask"}},
]


def fuser(**keys: object) -> Fuser:
    members = {"seg": {"role": "masks"}}
    return Fuser(FusionSection.model_validate({"members": members, "rules": ["nms"], "masks": "average", **keys}))


def boxes_of(*rows: tuple[float, ...]) -> Instances:
    """From (x1, y1, x2, y2, score, label) rows, without masks."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return Instances.of(table[:, :4], table[:, 4], table[:, 5])


def said(instances: Instances, *values: float | None) -> BoxMasks:
    """For each instance a patch that is one value everywhere; None for absent."""
    patches = np.zeros((len(values), 4, 4), np.float16)
    for patch, value in zip(patches, values, strict=True):
        patch[:] = 0 if value is None else value
    return BoxMasks(instances.boxes, patches, np.array([value is not None for value in values], dtype=np.bool_))


def centres(instances: Instances) -> list[float | None]:
    """What the mask of each instance says in the middle."""
    masks = instances.masks
    middle = masks.probabilities[:, masks.size // 2, masks.size // 2].astype(float).tolist()
    return [round(value, 3) if present else None for value, present in zip(middle, masks.present, strict=True)]


TWO = boxes_of((10, 10, 40, 40, 0.9, 0), (60, 60, 90, 90, 0.8, 1))


@pytest.mark.parametrize(
    ("role", "second_pass", "plan"),
    [
        ("boxes", False, Plan(boxes=True, own_masks=False, masks=False)),
        ("boxes", True, Plan(boxes=True, own_masks=False, masks=False)),
        ("masks", False, Plan(boxes=False, own_masks=False, masks=True)),
        ("masks", True, Plan(boxes=False, own_masks=False, masks=True)),
        ("both", False, Plan(boxes=True, own_masks=True, masks=False)),
        ("both", True, Plan(boxes=True, own_masks=False, masks=True)),
    ],
)
def test_the_role_and_the_section_say_what_a_view_is_asked_for(role: str, second_pass: bool, plan: Plan) -> None:
    section = FusionSection.model_validate({"members": {"det": {"role": role}}, "second_pass": second_pass})
    assert Fuser(section).plan(DET) == plan
    assert Fuser(section, maskless=["other"]).plan(DET) == plan


def test_a_member_without_masks_is_asked_for_boxes_alone() -> None:
    section = FusionSection.model_validate("tis")
    assert Fuser(section).plan(DET).masks
    assert Fuser(section, maskless=["det"]).plan(DET) == Plan(boxes=True, own_masks=False, masks=False)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_segmenters_masks_come_to_the_boxes_that_they_were_predicted_for(policy: object) -> None:
    """Two boxes of one class overlap enough to lend each other masks; they do not."""
    close = boxes_of((10, 10, 40, 40, 0.9, 0), (10, 10, 40, 34, 0.8, 0))
    two_pass = fuser(rules=[], masks=policy)
    merged = two_pass.merge({DET: close}, image_hw=HW, sources=VIEWS)
    fused = two_pass.finish(merged, {SEG: said(merged.instances, 0.75, 0.25)})
    assert centres(fused) == [0.75, 0.25]
    np.testing.assert_array_equal(fused.boxes, close.boxes)
    np.testing.assert_array_equal(fused.scores, close.scores)
    np.testing.assert_array_equal(fused.masks.boxes, close.boxes)


def test_the_mean_is_over_the_views_that_have_a_mask_of_the_box() -> None:
    two_pass = fuser()
    merged = two_pass.merge({DET: TWO, FLIP: boxes_of()}, image_hw=HW, sources=VIEWS)
    fused = two_pass.finish(merged, {SEG: said(merged.instances, 0.5, 0.25), STRIP: said(merged.instances, 1.0, None)})
    assert centres(fused) == [0.75, 0.25]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_an_absent_mask_is_not_replaced_by_that_of_a_box_beside_it(policy: object) -> None:
    close = boxes_of((10, 10, 40, 40, 0.9, 0), (10, 10, 40, 38, 0.8, 0))
    two_pass = fuser(rules=[], masks=policy)
    merged = two_pass.merge({DET: close}, image_hw=HW, sources=VIEWS)
    fused = two_pass.finish(merged, {SEG: said(merged.instances, 0.75, None)})
    assert centres(fused) == [0.75, None]


def test_a_box_that_no_view_drew_is_lent_the_nearest_detections_mask_past_that_of_a_box_beside_it() -> None:
    """A member's own masks stand beside those of a second pass, where only others have one."""
    bare = View("bare", 400)
    roles = {"bare": {"role": "boxes"}, "seg": {"role": "masks"}}
    one = fuser(masks="best", rules=[{"nms": {"iou_threshold": 0.8}}], members=roles, top_k=2)
    two = boxes_of((10, 10, 40, 40, 0.9, 0), (10, 10, 40, 33, 0.8, 0))  # IoU 0.77
    own = boxes_of((10, 10, 40, 27, 0.1, 0))  # IoU 0.57 and 0.74
    found = {bare: two, DET: replace(own, masks=said(own, 0.25))}
    merged = one.merge(found, image_hw=HW, sources=[bare, DET, SEG])
    answer = one.finish(merged, {SEG: said(merged.instances, 1.0, None)})
    assert centres(answer) == [1.0, 0.25]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_twice_the_same_box_gets_its_own_mask_each_time(policy: object) -> None:
    twins = boxes_of((10, 10, 40, 40, 0.9, 0), (10, 10, 40, 40, 0.8, 0))
    two_pass = fuser(rules=[], masks=policy)
    merged = two_pass.merge({DET: twins}, image_hw=HW, sources=VIEWS)
    assert centres(two_pass.finish(merged, {SEG: said(merged.instances, 1.0, 0.5)})) == [1.0, 0.5]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_without_an_answer_from_a_segmenter_no_instance_has_a_mask(policy: object) -> None:
    two_pass = fuser(masks=policy)
    merged = two_pass.merge({DET: TWO}, image_hw=HW, sources=VIEWS)
    assert two_pass.finish(merged).masks is None
    assert two_pass.finish(merged, {}).masks is None
    assert centres(two_pass.finish(merged, {SEG: said(merged.instances, None, None)})) == [None, None]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_nothing_fused_is_answered_with_no_masks(policy: object) -> None:
    two_pass = fuser(masks=policy)
    merged = two_pass.merge({DET: boxes_of()}, image_hw=HW, sources=VIEWS)
    fused = two_pass.finish(merged, {SEG: BoxMasks.empty()})
    assert len(fused) == len(fused.masks) == 0


def test_ranges_do_not_restrict_the_masks_of_the_second_pass() -> None:
    two_pass = fuser(ranges={"seg@600": [0, 5]})
    merged = two_pass.merge({DET: TWO}, image_hw=HW, sources=VIEWS)
    assert centres(two_pass.finish(merged, {SEG: said(merged.instances, 0.75, 0.25)})) == [0.75, 0.25]


def test_best_takes_the_mask_of_the_view_that_the_box_came_from() -> None:
    two_pass = fuser(masks="best", second_pass=True)
    other = boxes_of((60, 60, 90, 90, 0.85, 1))
    merged = two_pass.merge({DET: TWO, FLIP: other}, image_hw=HW, sources=VIEWS)
    assert merged.instances.source.tolist() == [0, 1]
    masks = {view: said(merged.instances, *values) for view, values in {DET: (0.1, 0.2), FLIP: (0.3, 0.4)}.items()}
    np.testing.assert_allclose(centres(two_pass.finish(merged, masks)), [0.1, 0.4], atol=1e-3)
    masks[FLIP] = said(merged.instances, 0.3, None)
    np.testing.assert_allclose(centres(two_pass.finish(merged, masks)), [0.1, 0.2], atol=1e-3)


def test_a_views_own_masks_give_way_and_those_of_other_views_stay() -> None:
    """DET was asked in both passes, FLIP in the first alone, as after a failure: its masks are matched as ever."""
    two_pass = fuser(second_pass=True)
    own = Instances.of(TWO.boxes, TWO.scores, TWO.labels, said(TWO, 0.0, 0.0))
    merged = two_pass.merge({DET: own, FLIP: own}, image_hw=HW, sources=VIEWS)
    assert centres(two_pass.finish(merged, {DET: said(merged.instances, 1.0, 0.5)})) == [0.5, 0.25]
    assert centres(two_pass.finish(merged)) == [0, 0]


def test_scale_ratio_takes_the_scales_that_suit_among_those_asked() -> None:
    """A box of 30 px is at its best where it is shown largest: at 600 rather than at 400."""
    two_pass = fuser(masks={"scale_ratio": {"k": 1}}, second_pass=True)
    merged = two_pass.merge({DET: TWO}, image_hw=HW, sources=VIEWS)
    masks = {DET: said(merged.instances, 0.0, 0.0), SEG: said(merged.instances, 1.0, None)}
    assert centres(two_pass.finish(merged, masks)) == [1.0, 0.0]


def test_masks_become_pixels_by_the_sections_convention() -> None:
    two_pass = fuser(pasting="detectron2")
    merged = two_pass.merge({DET: TWO}, image_hw=HW, sources=VIEWS)
    assert two_pass.finish(merged, {SEG: said(merged.instances, 1.0, None)}).masks.pasting == "detectron2"


def test_masks_that_do_not_fit_the_fused_boxes_are_refused() -> None:
    two_pass = fuser()
    merged = two_pass.merge({DET: TWO}, image_hw=HW, sources=[DET, SEG])
    with pytest.raises(InputError, match=r"masks of view seg@600: expected 2, one for each fused box; got 1"):
        two_pass.finish(merged, {SEG: said(merged.instances[[0]], 1.0)})
    with pytest.raises(InputError, match=r"masks: expected views among the sources det@400, seg@600; got det@400/flip"):
        two_pass.finish(merged, {FLIP: said(merged.instances, 1.0, 1.0)})
    with pytest.raises(InputError, match=r"view seg@600: masks.probabilities: expected 0..1; got 2.0 at position 1"):
        two_pass.finish(merged, {SEG: said(merged.instances, 1.0, 2.0)})


ROW = st.tuples(
    *[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2, st.sampled_from([0.2, 0.5, 0.9]), st.integers(0, 1)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(ROW, max_size=5), min_size=2, max_size=2),
    st.lists(st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=12, max_size=12), min_size=3, max_size=3),
    st.sampled_from([[], ["nms"], ["soft_nms"], ["nms", {"vote": {"iou_threshold": 0.3}}]]),
)
def test_average_is_the_mean_of_what_was_said_of_each_box_and_nothing_else(
    found: list, values: list, rules: list
) -> None:
    """Against a loop over instances and views, whatever was found, in any order of the views."""
    two_pass = fuser(rules=rules, second_pass=True)
    views = {
        view: boxes_of(*((x, y, x + w, y + h, score, label) for x, y, w, h, score, label in rows))
        for view, rows in zip((DET, FLIP), found, strict=True)
    }
    merged = two_pass.merge(views, image_hw=HW, sources=VIEWS)
    count = len(merged.instances)
    masks = {view: said(merged.instances, *row[:count]) for view, row in zip((SEG, FLIP, DET), values, strict=True)}
    fused = two_pass.finish(merged, masks)
    for i, got in enumerate(centres(fused)):
        votes = [row[i] for row in values if row[i] is not None]
        assert got == (pytest.approx(np.mean(votes), abs=1e-3) if votes else None)
    again = two_pass.finish(merged, dict(reversed(masks.items())))
    np.testing.assert_array_equal(again.masks.probabilities, fused.masks.probabilities)
    np.testing.assert_array_equal(fused.boxes, merged.instances.boxes)


def test_boxes_from_elsewhere_are_given_masks_by_the_same_policies() -> None:
    for policy in POLICIES:
        two_pass = fuser(masks=policy)
        merged = two_pass.given(TWO.boxes, TWO.labels, image_hw=HW, sources=VIEWS)
        fused = two_pass.finish(merged, {SEG: said(merged.instances, 0.75, None)})
        assert centres(fused) == [0.75, None]
        np.testing.assert_array_equal(fused.labels, TWO.labels)
