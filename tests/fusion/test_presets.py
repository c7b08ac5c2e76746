"""The settings of published systems: how they are written, and what they compute beside a brute force."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import grid_sample

from tis_ray.config import Ensemble, FusionSection, Member, dump, parse
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser, fuse
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.rle import areas

PRESETS = ["tis", "lvis", "megdet"]
HW = (2710, 3384)  # a frame of WAD 2018
INFINITE = float("inf")


def section(content):
    return parse(FusionSection, content if isinstance(content, dict) else {"preset": content}, source="fusion.yaml")


def ensemble(fusion, *scales, overrides=()):
    members = {"a": {"checkpoint": "a", "scales": list(scales[:1])}, "b": {"checkpoint": "b", "scales": list(scales)}}
    return parse(Ensemble, {"members": members, "fusion": fusion}, overrides, source="all.yaml")


# -------------------------------------------------------------------------------------- How they are written


def test_tis_stands_for_the_papers_steps():
    written = dump(section("tis"))
    assert written["rules"] == [{"nms": {"iou_threshold": 0.5}}, {"vote": {"iou_threshold": 0.9}}]
    assert written["masks"] == {"average": {"iou_threshold": 0.5}}
    assert (written["ranges"], written["rare_boost"], written["top_k"]) == ({}, None, 100)


def test_lvis_stands_for_the_papers_steps():
    written = dump(section("lvis"))
    assert written["rare_boost"] == {"delta": 0.1, "frequency": ["r"], "max_count": None, "classes": []}
    assert [list(rule) for rule in written["rules"]] == [["nms"], ["soft_nms"]]
    assert written["rules"][0]["nms"] == {"iou_threshold": 0.7}
    assert written["masks"] == {"scale_ratio": {"k": 2}}
    assert written["top_k"] == 300
    assert written["ranges"]["@400"] == [96, None]
    assert written["ranges"]["@1400"] == [0, 128]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_part_of_a_preset_exists(preset):
    Fuser(section(preset), Categories((1,), ("a",), frequency=("r",)))


def test_megdet_stands_for_soft_nms_and_the_mean_of_masks():
    written = dump(section("megdet"))
    assert written["rules"] == [{"soft_nms": {"method": "linear", "iou_threshold": 0.5, "min_score": 1e-4}}]
    assert written["masks"] == {"average": {"iou_threshold": 0.5}}
    assert (written["members"], written["ranges"], written["rare_boost"]) == ({}, {}, None)


def test_the_scales_of_megdet_are_five_and_their_mirror_images():
    views = sorted(Member(checkpoint="x", preset="megdet").views("x"))
    assert [(view.scale, view.flip) for view in views] == [
        (scale, flip) for scale in (600, 800, 1000, 1200, 1400) for flip in (False, True)
    ]


@pytest.mark.parametrize("fusion", ["tis", {"preset": "tis"}, {"tis": {}}])
def test_a_preset_may_be_its_bare_name(fusion):
    assert ensemble(fusion, 800).fusion == section("tis")


def test_what_is_written_beside_a_preset_wins():
    found = section({"preset": "lvis", "top_k": 7, "rare_boost": None, "masks": "best", "ranges": {"@500": [0, 9]}})
    assert (found.top_k, found.rare_boost, found.masks.name) == (7, None, "best")
    assert found.ranges == {"@500": (0, 9)}
    assert found.rules == section("lvis").rules


@pytest.mark.parametrize("fusion", ["tis", {"preset": "tis"}, {"preset": "tis", "top_k": 9}])
def test_overrides_reach_into_a_preset(fusion):
    found = ensemble(fusion, 800, overrides=["fusion.top_k=200"]).fusion
    assert (found.preset, found.top_k, found.masks.name) == ("tis", 200, "average")


@pytest.mark.parametrize("fusion", [*PRESETS, {"preset": "lvis", "top_k": 7, "ranges": {}}])
@pytest.mark.parametrize("scales", [(400, 600, 800, 1000, 1200, 1400), (800, 1200), (1000, 1400), (500,)])
def test_a_preset_is_the_same_after_writing_and_reading(fusion, scales):
    once = ensemble(fusion, *scales)
    again = parse(Ensemble, dump(once), source="written")
    assert again == once
    assert dump(again.fusion) == dump(once.fusion)


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ("tiss", r"fusion\.preset: .*'lvis' or 'megdet'; got 'tiss'"),
        ({"preset": ["tis"]}, r"fusion\.preset: .*'lvis' or 'megdet'"),
        ({"tis": {"top_k": 3}}, r"fusion\.tis: unknown key"),
        (3, r"fusion: .*got 3"),
        ({"preset": "lvis", "ranges": {"@500": [0, 9]}}, r"fusion\.ranges\.@500: expected one of @800"),
    ],
)
def test_a_wrong_preset_is_refused(fusion, message):
    with pytest.raises(ConfigError, match=message):
        ensemble(fusion, 800)


@pytest.mark.parametrize(
    ("scales", "ranges"),
    [
        pytest.param((400, 800, 1400), {400: (96, INFINITE), 800: (0, INFINITE), 1400: (0, 128)}, id="all sizes heard"),
        pytest.param((400, 1400), {400: (96, INFINITE), 1400: (0, 128)}, id="the outermost"),
        pytest.param((1000, 1400), {1000: (0, INFINITE), 1400: (0, 128)}, id="nobody else for large ones"),
        pytest.param((400, 600), {400: (96, INFINITE), 600: (0, INFINITE)}, id="nobody else for small ones"),
        pytest.param((1200,), {1200: (0, INFINITE)}, id="one scale"),
        pytest.param((1000, 1500), {1000: (0, 320)}, id="a scale that speaks for every size"),
        pytest.param((333,), {}, id="none of them"),
    ],
)
def test_ranges_of_a_preset_fit_the_scales_there_are(scales, ranges):
    assert ensemble("lvis", *scales).fusion.ranges == {f"@{scale}": interval for scale, interval in ranges.items()}


def test_ranges_that_are_written_are_not_widened():
    written = {"@1000": [0, 320]}
    assert ensemble({"preset": "lvis", "ranges": written}, 1000).fusion.ranges == {"@1000": (0, 320)}


def test_the_examples_of_the_documentation_are_valid():
    page = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text()
    examples = [yaml.safe_load(block.split("```")[0]) for block in page.split("```yaml\n")[1:]]
    assert len(examples) >= 3
    for example in examples:
        members = {"members": {"a": {"checkpoint": "a", "scales": [400, 1400, 1600]}}}
        fusion = parse(Ensemble, members | example, source="fusion.md").fusion
        fusion = fusion.model_copy(update={"auto_ranges": None})  # what they are needs checkpoints
        Fuser(fusion, Categories((1,), ("a",), frequency=("r",)))


# ----------------------------------------------------------------------------------------- What they compute


def found_by(views, *, objects=45, classes=7, mask_size=28, spread=0.02, seed=0):
    """What each view finds: most of the same objects, shifted by a share of their sides, and some that are not there.

    Masks are discs of various sizes.
    """
    rng = np.random.default_rng(seed)
    corners = np.c_[rng.uniform(-20, HW[1] - 20, objects), rng.uniform(-20, HW[0] - 20, objects)]
    sides = np.exp(rng.uniform(np.log(8), np.log(900), (objects, 2)))
    truth, labels = np.c_[corners, corners + sides], rng.integers(0, classes, objects)
    y, x = np.mgrid[:mask_size, :mask_size] / (mask_size - 1) - 0.5
    found = {}
    for view in views:
        seen = rng.random(objects) < 0.85
        boxes = truth[seen] + rng.normal(0, spread, (seen.sum(), 4)) * sides[seen][:, [0, 1, 0, 1]]
        false = np.c_[rng.uniform(0, 2500, (5, 2)), rng.uniform(0, 100, (5, 2))]
        boxes = np.concatenate([boxes, np.c_[false[:, :2], false[:, :2] + false[:, 2:]]]).astype(np.float32)
        radius = rng.uniform(0.3, 0.5, (len(boxes), 1, 1))
        patches = np.clip(4 * (radius - np.hypot(x, y)) + 0.5 + rng.normal(0, 0.1, (len(boxes), 1, 1)), 0, 1)
        scores = rng.uniform(0.05, 1, len(boxes))
        all_labels = np.r_[labels[seen], rng.integers(0, classes, 5)]
        found[view] = Instances.of(boxes, scores, all_labels, BoxMasks(boxes, patches.astype(np.float16)))
    return found


def iou_with(box, boxes):
    """IoUs (M,) of one box with others, in float64."""
    shared = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


def union_of(found, views):
    """Clipped boxes, scores, labels, frames, patches and view numbers of everything found inside the image."""
    parts = [(number, found[view]) for number, view in enumerate(views) if view in found]
    frames = np.concatenate([part.boxes for _, part in parts]).astype(np.float64)
    boxes = np.clip(frames, 0, [HW[1], HW[0], HW[1], HW[0]])
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    columns = (
        boxes,
        np.concatenate([part.scores for _, part in parts]).astype(np.float64),
        np.concatenate([part.labels for _, part in parts]),
        frames,
        np.concatenate([part.masks.probabilities for _, part in parts]).astype(np.float64),
        np.concatenate([[number] * len(part) for number, part in parts]),
    )
    return [column[inside] for column in columns]


def suppressed(boxes, scores, labels, threshold):
    """Positions that NMS keeps, by descending score."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        rivals = [k for k in kept if labels[k] == labels[i]]
        if not rivals or iou_with(boxes[i], boxes[rivals]).max() <= threshold:
            kept.append(i)
    return kept


def shown_over(box, frame, patch):
    """The patch over `frame`, pasted by PyTorch and read at the centres of as many cells of `box`."""
    share = (np.arange(len(patch)) + 0.5) / len(patch)
    x, y = np.meshgrid(box[0] + share * (box[2] - box[0]), box[1] + share * (box[3] - box[1]))
    grid = (np.stack([x, y], -1) - frame[:2]) / (frame[2:] - frame[:2]) * 2 - 1
    pasted = grid_sample(
        torch.from_numpy(patch)[None, None], torch.from_numpy(grid)[None], mode="bilinear", align_corners=False
    )
    return pasted[0, 0].numpy()


def slow_tis(found, views, top_k):
    """Union, NMS 0.5, boxes voted at 0.9 with their scores kept, the best, the mean mask of the views: rows."""
    boxes, scores, labels, frames, patches, sources = union_of(found, views)
    rows = []
    for i in suppressed(boxes, scores, labels, 0.5)[:top_k]:
        voters = (labels == labels[i]) & (iou_with(boxes[i], boxes) >= 0.9)
        box = np.average(boxes[voters], axis=0, weights=scores[voters])
        ious = np.where(labels == labels[i], iou_with(box, boxes), 0)
        shown = []
        for number in range(len(views)):
            own = np.where(sources == number, ious, 0)
            if own.max() >= 0.5:
                shown.append(shown_over(box, frames[own.argmax()], patches[own.argmax()]))
        rows.append((box, scores[i], labels[i], sources[i], np.mean(shown, axis=0)))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("missing", [(), (0, 7, 19)], ids=["all views", "three views missing"])
def test_the_whole_tis_setting_equals_a_brute_force_of_the_papers_steps(missing):
    views = sorted(Member(checkpoint="resnet152", preset="tis").views("resnet152"))
    assert len(views) == 20
    found = {view: one for i, (view, one) in enumerate(found_by(views).items()) if i not in missing}
    fused = fuse(found, section("tis"), image_hw=HW, sources=views)
    boxes, scores, labels, sources, masks = slow_tis(found, views, 100)
    assert len(fused) == 100
    np.testing.assert_array_equal(fused.labels, labels)
    np.testing.assert_array_equal(fused.source, sources)
    np.testing.assert_array_equal(fused.scores, scores.astype(np.float32))
    np.testing.assert_allclose(fused.boxes, boxes, rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(fused.masks.boxes, fused.boxes)
    np.testing.assert_allclose(fused.masks.probabilities, masks, atol=2e-3)


def slow_soft_nms(boxes, scores, labels, threshold, min_score):
    """(position, decayed score) by descending score, linear decay."""
    scores, left, taken = scores.copy(), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        taken.append((best, scores[best]))
        for i in left:
            iou = iou_with(boxes[best], boxes[[i]])[0] if labels[i] == labels[best] else 0
            scores[i] *= 1 - iou if iou > threshold else 1
        left = [i for i in left if scores[i] >= min_score]
    return sorted(taken, key=lambda pair: -pair[1])


MEGDET = {  # detectors for the boxes, one of which has masks too; a segmenter for the masks
    "preset": "megdet",
    "members": {"detector": {"role": "boxes"}, "segmenter": {"role": "masks"}},
}


def slow_megdet(found, views, top_k):
    """Soft-NMS of what all but the segmenter found, then the mean mask of all but the detector: rows."""
    boxes, scores, labels, frames, patches, sources = union_of(found, views)
    members = np.array([views[source].member for source in sources])
    speak, show = np.flatnonzero(members != "segmenter"), np.flatnonzero(members != "detector")
    rows = []
    for position, score in slow_soft_nms(boxes[speak], scores[speak], labels[speak], 0.5, 1e-4)[:top_k]:
        i = speak[position]
        ious = np.where(labels[show] == labels[i], iou_with(boxes[i], boxes[show]), 0)
        shown = []
        for number in range(len(views)):
            own = np.where(sources[show] == number, ious, 0)
            if own.max() >= 0.5:
                nearest = show[own.argmax()]
                shown.append(shown_over(boxes[i], frames[nearest], patches[nearest]))
        rows.append((boxes[i], score, labels[i], sources[i], np.mean(shown, axis=0) if shown else None))
    return rows


def test_megdet_equals_a_brute_force_of_its_steps_with_members_for_boxes_and_for_masks():
    scales = {"detector": (600, 1000), "segmenter": (800,), "whole": (1400,)}
    views = sorted(view for name in scales for view in Member(checkpoint="x", scales=scales[name]).views(name))
    found = found_by(views, objects=50, mask_size=14, spread=0.04)
    fused = fuse(found, section(MEGDET), image_hw=HW, sources=views)
    rows = slow_megdet(found, views, 100)
    assert len(fused) == len(rows) == 100
    np.testing.assert_array_equal(fused.boxes, np.array([row[0] for row in rows], np.float32))
    np.testing.assert_allclose(fused.scores, [row[1] for row in rows], rtol=1e-6)
    np.testing.assert_array_equal(fused.labels, [row[2] for row in rows])
    np.testing.assert_array_equal(fused.source, [row[3] for row in rows])
    present = np.array([row[4] is not None for row in rows])
    assert 0 < present.sum() < len(present)  # what the detector alone has found has no mask
    np.testing.assert_array_equal(fused.masks.present, present)
    expected = [row[4] for row in rows if row[4] is not None]
    np.testing.assert_allclose(fused.masks.probabilities[present], expected, atol=2e-3)


@pytest.mark.parametrize("masks", ["best", "average", "scale_ratio", "vote", {"vote": {"iou": "mask"}}])
def test_every_policy_gives_the_boxes_of_one_member_the_masks_of_another(masks):
    box, beside = [100, 100, 300, 300], [100, 100, 300, 290]
    detector, segmenter = (
        next(Member(checkpoint="x", scales=(800,)).views(name)) for name in ("detector", "segmenter")
    )
    frame = np.array([beside], np.float32)
    found = {
        detector: Instances.of([box, [900, 900, 990, 990]], [0.8, 0.7], [0, 0]),
        segmenter: Instances.of(frame, [0.9], [0], BoxMasks(frame, np.ones((1, 14, 14), np.float16))),
    }
    fused = fuse(found, section({**MEGDET, "masks": masks}), image_hw=HW, sources=[detector, segmenter])
    assert fused.scores.tolist() == pytest.approx([0.8, 0.7])  # the segmenter's box is none of them
    assert fused.masks.present.tolist() == [True, False]
    shown, nothing = fused.masks.to_rle(*HW)
    assert nothing is None
    assert 0.9 < areas([shown])[0] / (200 * 190) < 1.1


def test_the_order_of_lvis_is_nms_then_soft_nms_then_the_best_300():
    views = sorted(Member(checkpoint="x", scales=(400, 800, 1400)).views("x"))
    found = found_by(views, objects=110, classes=3, mask_size=2, spread=0.1)
    keys = {"preset": "lvis", "rare_boost": None, "ranges": {}, "masks": "best"}
    fused = fuse(found, section(keys), image_hw=HW, sources=views)
    boxes, scores, labels, *_, sources = union_of(found, views)
    kept = suppressed(boxes, scores, labels, 0.7)
    rows = slow_soft_nms(boxes[kept], scores[kept], labels[kept], 0.5, 1e-4)
    assert len(kept) < len(boxes)
    assert len(rows) > 300 == len(fused)
    taken = np.array(kept)[[position for position, _ in rows[:300]]]
    assert (fused.scores < scores[taken].astype(np.float32)).any()  # something was decayed at all
    np.testing.assert_array_equal(fused.source, sources[taken])
    np.testing.assert_array_equal(fused.boxes, boxes[taken].astype(np.float32))
    np.testing.assert_allclose(fused.scores, [score for _, score in rows[:300]], rtol=1e-6)


def test_an_iou_of_exactly_the_threshold_passes_both_steps_of_lvis():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5], [0, 20, 10, 30], [0, 20, 10, 25]]  # IoU .7, .5, 5/7; .5
    found = Instances.of(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5, source=range(5))
    view = next(Member(checkpoint="x", scales=(800,)).views("x"))
    keys = {"preset": "lvis", "rare_boost": None}
    fused = fuse({view: found}, section(keys), image_hw=(100, 100))
    assert fused.boxes.tolist() == [boxes[i] for i in (0, 3, 4, 1)]  # the third falls to the second at 5/7
    assert fused.scores.tolist() == pytest.approx([0.9, 0.6, 0.5, 0.8 * 0.3])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_order_in_which_views_arrive_does_not_matter(preset):
    views = sorted(Member(checkpoint="x", scales=(400, 800, 1400)).views("x"))
    found = found_by(views, objects=30, mask_size=6)
    for one in found.values():
        one.scores[:] = np.round(one.scores, 1)  # many ties
    table = Categories(tuple(range(7)), tuple("abcdefg"), frequency=tuple("rrccfff"))
    backwards = dict(reversed(found.items()))
    first, second = (
        fuse(arrived, section(preset), image_hw=HW, sources=views, categories=table) for arrived in (found, backwards)
    )
    for field in ("boxes", "scores", "labels", "source"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    np.testing.assert_array_equal(first.masks.probabilities, second.masks.probabilities)


@pytest.mark.parametrize("preset", PRESETS)
def test_views_that_found_nothing_or_are_missing_are_fused(preset):
    views = sorted(Member(checkpoint="x", scales=(400, 800)).views("x"))
    table = Categories((1,), ("a",), frequency=("r",))
    options = {"image_hw": HW, "sources": views, "categories": table}
    assert len(fuse({}, section(preset), **options)) == 0
    assert len(fuse({view: Instances.empty(mask_size=28) for view in views}, section(preset), **options)) == 0
    box = np.array([[0, 0, 100, 100]], np.float32)
    found = Instances.of(box, [0.5], [0], BoxMasks(box, np.ones((1, 28, 28), np.float16)))
    fused = fuse({views[2]: found, views[0]: Instances.empty(mask_size=28)}, section(preset), **options)
    np.testing.assert_array_equal(fused.masks.probabilities, found.masks.probabilities)
    assert fuse({views[2]: found.without_masks()}, section(preset), **options).masks is None
