"""The whole fusion: steps in order, order of the answer, and independence of the order of arrival."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tis_ray.config import FusionSection
from tis_ray.errors import ConfigError, InputError
from tis_ray.fusion.fuse import Fuser, fuse
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks
from tis_ray.ops.boxes import clip
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.views import View

VIEWS = [View("a", 400), View("a", 400, True), View("a", 800), View("b", 400)]
HW = (20, 20)
ROW = st.tuples(
    *[st.integers(-2, 18)] * 2, *[st.integers(0, 9)] * 2, st.sampled_from([0.2, 0.5, 0.9]), st.integers(0, 2)
)
FOUND = st.lists(st.lists(ROW, max_size=8), min_size=4, max_size=4)
RULES = st.sampled_from(
    [
        [],
        ["nms"],
        ["soft_nms"],
        [{"nms": {"iou_threshold": 0.7}}, {"soft_nms": {"method": "gaussian"}}],
        [{"soft_nms": {"iou_threshold": 0.3}}, {"nms": {"iou_threshold": 0.3, "class_agnostic": True}}],
        ["nms", {"vote": {"iou_threshold": 0.3, "scores": "avg"}}],
        [{"wbf": {"iou_threshold": 0.3}}],
        [{"nmw": {"iou_threshold": 0.3, "class_agnostic": True}}],
        [{"mask_nms": {"iou_threshold": 0.3}}],
        [{"mask_nms": {"method": "gaussian", "class_agnostic": True}}],
    ]
)
POLICIES = st.sampled_from(
    [
        "best",
        "average",
        {"average": {"weights": "score", "of": "logit", "k": 2}},
        {"scale_ratio": {"iou_threshold": 0.3}},
        {"vote": {"iou_threshold": 0.3}},
        {"vote": {"iou_threshold": 0.3, "iou": "mask"}},
    ]
)


def section(**keys):
    return FusionSection.model_validate(keys)


def instances_of(rows, *, masks=True):
    """From (x, y, width, height, score, label) rows; each mask is filled with a number of its own."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    patches = np.broadcast_to(np.linspace(0, 1, len(table), dtype=np.float16)[:, None, None], (len(table), 3, 3))
    return Instances.of(boxes, table[:, 4], table[:, 5], BoxMasks(boxes, patches.copy()) if masks else None)


def as_pixels(instances):
    return replace(instances, masks=RunMasks(instances.masks.to_runs(*HW), instances.masks.present))


def arrays_of(instances):
    masks = instances.masks
    arrays = [instances.boxes, instances.scores, instances.labels, instances.source]
    if isinstance(masks, BoxMasks):
        arrays += [masks.boxes, masks.probabilities, masks.present]
    elif masks is not None:
        arrays += [masks.runs.spans, masks.runs.offsets, masks.present]
    return arrays


def assert_same(a, b):
    for left, right in zip(arrays_of(a), arrays_of(b), strict=True):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        assert left.tobytes() == right.tobytes()


def slow_nms_fusion(found, iou_threshold, top_k):
    """(source, position) of the answer: pool, clip, suppress one by one, cut."""
    pool = []
    for source, instances in enumerate(found):
        boxes = clip(instances.boxes, *HW)
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            if x2 > x1 and y2 > y1:
                own = (*instances.boxes[i], instances.masks.key(i))
                pool.append((-instances.scores[i], source, instances.labels[i], own, i, boxes[[i]]))
    kept = []
    for row in sorted(pool, key=lambda row: row[:4]):
        if all(row[2] != other[2] or pairwise_iou(row[5], other[5])[0, 0] <= iou_threshold for other in kept):
            kept.append(row)
    return [(row[1], row[4]) for row in kept[:top_k]]


# ------------------------------------------------------------------------------------------- Properties


@settings(deadline=None, max_examples=150)
@given(FOUND, RULES, POLICIES, st.permutations(range(4)), st.booleans())
def test_the_order_of_arrival_does_not_change_a_byte(found, rules, policy, order, pixels):
    views = {view: instances_of(rows) for view, rows in zip(VIEWS, found, strict=True)}
    if pixels:
        views = {view: as_pixels(instances) for view, instances in views.items()}
    rng = np.random.default_rng(order)
    shuffled = {VIEWS[i]: views[VIEWS[i]][rng.permutation(len(views[VIEWS[i]]))] for i in order}
    keys = section(rules=rules, masks=policy, ranges={"@800": (0, 6)}, members={"b": {"weight": 2}}, top_k=7)
    assert_same(fuse(views, keys, image_hw=HW), fuse(shuffled, keys, image_hw=HW))


@settings(deadline=None, max_examples=80)
@given(FOUND, st.sampled_from([0.0, 0.5]), st.sampled_from([1, 5, 100]))
def test_equals_brute_force(found, iou_threshold, top_k):
    views = {view: instances_of(rows) for view, rows in zip(VIEWS, found, strict=True)}
    keys = section(rules=[{"nms": {"iou_threshold": iou_threshold}}], top_k=top_k)
    fused = fuse(views, keys, image_hw=HW)
    expected = slow_nms_fusion([views[view] for view in VIEWS], iou_threshold, top_k)
    assert fused.source.tolist() == [source for source, _ in expected]
    for row, (source, position) in enumerate(expected):
        origin = views[VIEWS[source]]
        np.testing.assert_array_equal(fused.boxes[[row]], clip(origin.boxes[[position]], *HW))
        np.testing.assert_array_equal(fused.masks.boxes[row], origin.masks.boxes[position])
        np.testing.assert_array_equal(fused.masks.probabilities[row], origin.masks.probabilities[position])


@settings(deadline=None, max_examples=50)
@given(FOUND, RULES)
def test_the_answer_is_sorted_and_inside_the_image(found, rules):
    views = {view: instances_of(rows) for view, rows in zip(VIEWS, found, strict=True)}
    fused = fuse(views, section(rules=rules), image_hw=HW)
    keys = list(zip(-fused.scores, fused.source, strict=True))
    assert keys == sorted(keys)
    assert (fused.boxes >= 0).all()
    assert (fused.boxes <= 20).all()
    assert (fused.boxes[:, 2:] > fused.boxes[:, :2]).all()


# -------------------------------------------------------------------------------------------- Examples


def test_a_fused_answer_is_its_own_fusion():
    rng = np.random.default_rng(0)
    rows = np.c_[rng.uniform(0, 15, (60, 2)), rng.uniform(1, 9, (60, 2)), rng.uniform(0, 1, 60), np.zeros(60)]
    once = fuse({VIEWS[0]: instances_of(rows)}, section(), image_hw=HW)
    assert_same(fuse({VIEWS[0]: once}, section(), image_hw=HW), once)


def test_equal_scores_come_in_order_of_view_then_place():
    rows = [(x, 0, 2, 2, 0.5, 0) for x in (8, 0, 4)]
    views = {VIEWS[3]: instances_of(rows), VIEWS[0]: instances_of([(12, 0, 2, 2, 0.5, 0)])}
    fused = fuse(views, section(rules=["nms"]), image_hw=HW)
    assert fused.source.tolist() == [0, 1, 1, 1]
    assert fused.boxes[:, 0].tolist() == [12, 0, 4, 8]


def test_scores_that_a_rule_makes_equal_come_in_order_of_view_too():
    views = {
        VIEWS[0]: instances_of([(0, 0, 5, 5, 0.5, 0), (9, 9, 5, 5, 0, 0)]),
        VIEWS[1]: instances_of([(0, 0, 5, 5, 0.25, 0), (9, 9, 5, 5, 0.75, 0)]),
    }
    fused = fuse(views, section(rules=["nms", {"vote": {"scores": "avg"}}]), image_hw=HW)
    assert fused.scores.tolist() == [0.375, 0.375]
    assert fused.source.tolist() == [0, 1]


def test_a_failed_view_keeps_its_number():
    views = {VIEWS[2]: instances_of([(0, 0, 5, 5, 0.5, 0)]), VIEWS[0]: instances_of([(9, 9, 5, 5, 0.4, 0)])}
    assert fuse(views, section(), image_hw=HW, sources=VIEWS).source.tolist() == [2, 0]
    assert fuse(views, section(), image_hw=HW).source.tolist() == [1, 0]


def test_a_view_that_was_not_asked_is_refused():
    with pytest.raises(InputError, match=r"views: expected views among the sources a@400; got b@400"):
        fuse({VIEWS[3]: Instances.empty()}, section(), image_hw=HW, sources=VIEWS[:1])


def test_ranges_drop_before_the_rules_see_a_box():
    views = {VIEWS[0]: instances_of([(0, 0, 9, 9, 0.9, 0)]), VIEWS[2]: instances_of([(0, 0, 8, 9, 0.5, 0)])}
    assert fuse(views, section(), image_hw=HW).scores.tolist() == pytest.approx([0.9])
    keys = section(ranges={"a@400": (0, 5)})
    assert fuse(views, keys, image_hw=HW).scores.tolist() == pytest.approx([0.5])


def test_boxes_are_clipped_before_the_rules_and_masks_keep_their_frames():
    views = {VIEWS[0]: instances_of([(-2, 3, 4, 4, 0.9, 0), (-2, 3, 9, 4, 0.8, 0), (30, 3, 4, 4, 0.7, 0)])}
    fused = fuse(views, section(rules=[{"nms": {"iou_threshold": 0.3}}]), image_hw=HW)
    assert fused.boxes.tolist() == [[0, 3, 2, 7], [0, 3, 7, 7]]  # IoU 2/7 inside the image, 4/9 beyond it
    assert fused.masks.boxes.tolist() == [[-2, 3, 2, 7], [-2, 3, 7, 7]]


def test_rules_run_in_the_order_given():
    # Each overlaps the next: IoU 3/7, then 2/3; the first and the last 1/4.
    views = {VIEWS[0]: instances_of([(0, 0, 10, 9, 0.9, 0), (4, 0, 10, 9, 0.8, 0), (6, 0, 10, 9, 0.7, 0)])}
    hard, soft = {"nms": {"iou_threshold": 0.5}}, {"soft_nms": {"iou_threshold": 0.3}}
    hard_first = fuse(views, section(rules=[hard, soft]), image_hw=HW)
    soft_first = fuse(views, section(rules=[soft, hard]), image_hw=HW)
    assert hard_first.boxes[:, 0].tolist() == [0, 4]
    assert hard_first.scores.tolist() == pytest.approx([0.9, 0.8 * 4 / 7])
    assert soft_first.boxes[:, 0].tolist() == [0, 6]
    assert soft_first.scores.tolist() == pytest.approx([0.9, 0.7])


def test_hard_after_soft_still_drops_what_soft_has_only_decayed():
    boxes = [(0, 0, 10, 10, 0.9, 0), (0, 0, 10, 8, 0.8, 0)]
    views = {VIEWS[0]: instances_of(boxes)}
    assert len(fuse(views, section(rules=["soft_nms"]), image_hw=HW)) == 2
    assert len(fuse(views, section(rules=["soft_nms", "nms"]), image_hw=HW)) == 1


def test_the_threshold_and_top_k_are_over_all_classes():
    rows = [(4 * i, 0, 2, 2, 0.1 * (i + 1), i % 2) for i in range(5)]
    views = {VIEWS[0]: instances_of(rows)}
    assert fuse(views, section(score_threshold=0.3), image_hw=HW).scores.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert fuse(views, section(top_k=2), image_hw=HW).labels.tolist() == [0, 1]


def test_patches_of_different_sizes_are_fused():
    box = np.array([[0, 0, 5, 5]], np.float32)
    small = Instances.of(box, [0.5], [0], BoxMasks(box, np.ones((1, 7, 7), np.float16)))
    large = Instances.of(box + 9, [0.4], [0], BoxMasks(box + 9, np.ones((1, 14, 14), np.float16)))
    fused = fuse({VIEWS[0]: small, VIEWS[2]: large}, section(), image_hw=HW)
    assert fused.masks.probabilities.shape == (2, 14, 14)


@pytest.mark.parametrize(
    "views",
    [
        pytest.param({}, id="no view"),
        pytest.param({VIEWS[0]: Instances.empty()}, id="a view without boxes"),
        pytest.param({view: Instances.empty(mask_size=28) for view in VIEWS}, id="four views without boxes"),
    ],
)
@pytest.mark.parametrize("rules", [[], ["nms"], ["soft_nms", "nms"]])
def test_nothing_found_fuses_to_nothing(views, rules):
    fused = fuse(views, section(rules=rules), image_hw=HW)
    assert fused.boxes.shape == (0, 4)
    assert fused.boxes.dtype == np.float32


def test_boxes_without_masks_are_fused():
    fused = fuse({VIEWS[0]: instances_of([(0, 0, 5, 5, 0.5, 0)], masks=False)}, section(), image_hw=HW)
    assert len(fused) == 1
    assert fused.masks is None


def test_an_instance_of_a_view_without_masks_says_that_it_has_none():
    rows, elsewhere = [(0, 0, 5, 5, 0.5, 0)], [(9, 9, 5, 5, 0.4, 0)]
    views = {VIEWS[0]: instances_of(rows), VIEWS[2]: instances_of(elsewhere, masks=False)}
    for masks in ("best", "average", "scale_ratio"):
        fused = fuse(views, section(masks=masks), image_hw=HW)
        assert fused.masks.present.tolist() == [True, False]
        assert [one is None for one in fused.masks.to_rle(*HW)] == [False, True]


def test_a_box_of_a_view_without_masks_gets_the_mask_of_the_others():
    rows = [(0, 0, 8, 8, 0.5, 0)]
    boxes = instances_of([(0, 0, 8, 8, 0.9, 0)], masks=False)
    views = {VIEWS[0]: instances_of([*rows, *rows]), VIEWS[3]: boxes}
    fused = fuse(views, section(masks="average"), image_hw=HW)
    assert fused.scores.tolist() == pytest.approx([0.9])
    assert fused.masks.present.tolist() == [True]


@pytest.mark.parametrize(("role", "boxes", "masks"), [("both", 2, True), ("boxes", 2, False), ("masks", 1, True)])
def test_a_members_role_says_what_is_taken_of_it(role, boxes, masks):
    views = {
        VIEWS[0]: instances_of([(0, 0, 8, 8, 0.9, 0)], masks=False),
        VIEWS[3]: instances_of([(0, 0, 8, 7, 0.8, 0), (10, 10, 5, 5, 0.7, 0)]),
    }
    keys = section(members={"b": {"role": role}}, masks="average")
    fused = fuse(views, keys, image_hw=HW)
    assert len(fused) == boxes
    assert (fused.masks is not None) == masks
    if masks:
        assert fused.masks.present.all()


def test_members_for_masks_alone_do_not_count_among_the_views_that_missed_a_box():
    views = {VIEWS[0]: instances_of([(0, 0, 8, 8, 0.9, 0)]), VIEWS[3]: instances_of([(0, 0, 8, 8, 0.8, 0)])}
    keys = section(rules=["wbf"], members={"b": {"role": "masks"}})
    assert fuse(views, keys, image_hw=HW).scores.tolist() == pytest.approx([0.9])


def test_weights_multiply_scores_relative_to_the_largest():
    views = {VIEWS[0]: instances_of([(0, 0, 5, 5, 0.9, 0)]), VIEWS[3]: instances_of([(9, 9, 5, 5, 0.8, 0)])}
    keys = section(members={"a": {"weight": 2}, "b": {"weight": 4}})
    assert fuse(views, keys, image_hw=HW).scores.tolist() == pytest.approx([0.8, 0.45])


@pytest.mark.parametrize("pasting", ["torchvision", "detectron2"])
def test_the_pasting_convention_travels_with_the_masks(pasting):
    views = {VIEWS[0]: instances_of([(0, 0, 5, 5, 0.9, 0)])}
    assert fuse(views, section(pasting=pasting), image_hw=HW).masks.pasting == pasting
    beside = views | {VIEWS[3]: instances_of([(9, 9, 5, 5, 0.8, 0)], masks=False)}
    assert fuse(beside, section(pasting=pasting), image_hw=HW).masks.pasting == pasting


@pytest.mark.parametrize(
    ("field", "value"), [("boxes", np.nan), ("boxes", np.inf), ("scores", np.nan), ("scores", 1.5), ("labels", -1)]
)
def test_a_view_with_impossible_values_is_named(field, value):
    instances = instances_of([(0, 0, 5, 5, 0.5, 0)])
    getattr(instances, field)[0] = value
    with pytest.raises(InputError, match=rf"view b@400: {field}: expected"):
        fuse({VIEWS[3]: instances}, section(), image_hw=HW)


def test_masks_of_another_image_size_are_refused_with_their_view():
    views = {VIEWS[3]: as_pixels(instances_of([(0, 0, 5, 5, 0.5, 0)]))}
    with pytest.raises(InputError, match=r"^view b@400: masks: expected an image of 20x20 px, theirs; got 21x20$"):
        fuse(views, section(), image_hw=(20, 21))


def test_inputs_are_left_untouched():
    views = {view: instances_of([(-1, 0, 9, 9, 0.9, 0), (0, 0, 8, 9, 0.8, 0)]) for view in VIEWS}
    before = {view: [array.copy() for array in arrays_of(instances)] for view, instances in views.items()}
    for instances in views.values():
        for array in arrays_of(instances):
            array.flags.writeable = False
    fuse(views, section(rules=["soft_nms", "nms"]), image_hw=HW)
    for view, instances in views.items():
        for array, old in zip(arrays_of(instances), before[view], strict=True):
            np.testing.assert_array_equal(array, old)


# ---------------------------------------------------------------------------------------------- Config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param(
            {"rules": ["nms", "sot_nms"]},
            r"^fusion\.rules\.1: expected one of .*mask_nms, .*wbf.*; got 'sot_nms'; did you mean 'soft_nms'\?$",
            id="misspelt rule",
        ),
        pytest.param(
            {"rules": [{"nms": {"iou": 0.5}}]},
            r"^fusion\.rules\.0\.nms\.iou: unknown key.*class_agnostic, iou_threshold",
            id="unknown option",
        ),
        pytest.param(
            {"rules": [{"nms": {"iou_threshold": 1.5}}]},
            r"^fusion\.rules\.0\.nms\.iou_threshold: .* 1; got 1\.5$",
            id="IoU above 1",
        ),
        pytest.param(
            {"rules": [{"nms": {"iou_threshold": float("nan")}}]},
            r"^fusion\.rules\.0\.nms\.iou_threshold: .*got nan$",
            id="IoU of nan",
        ),
        pytest.param(
            {"rules": [{"soft_nms": {"sigma": 0}}]},
            r"^fusion\.rules\.0\.soft_nms\.sigma: .* 0; got 0$",
            id="sigma of 0",
        ),
        pytest.param(
            {"rules": [{"soft_nms": {"method": "cubic"}}]},
            r"^fusion\.rules\.0\.soft_nms\.method: .*'linear' or 'gaussian'; got 'cubic'$",
            id="unknown method",
        ),
        pytest.param(
            {"masks": "bets"},
            r"^fusion\.masks: expected one of .*best.*; got 'bets'",
            id="misspelt policy",
        ),
        pytest.param(
            {"masks": {"best": {"k": 2}}}, r"^fusion\.masks\.best\.k: unknown key", id="option of a policy without"
        ),
    ],
)
def test_a_wrong_section_is_refused_when_the_fuser_is_built(keys, message):
    with pytest.raises(ConfigError, match=message):
        Fuser(section(**keys))


def test_one_fuser_serves_many_images():
    fuser = Fuser(section())
    views = {VIEWS[0]: instances_of([(0, 0, 5, 5, 0.5, 0)])}
    assert_same(fuser.fuse(views, image_hw=HW), fuser.fuse(views, image_hw=HW))
    assert len(fuser.fuse({}, image_hw=(1, 1))) == 0
