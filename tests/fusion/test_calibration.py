"""Which calibration speaks for which member's and class's scores, and what the fusion makes of it."""

import numpy as np
import pytest

from tis_ray.config import FusionSection
from tis_ray.errors import ConfigError
from tis_ray.evaluation.coco import evaluate
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.dataset import ImageRecord
from tis_ray.fusion.calibration import Calibrations
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.views import View

CATEGORIES = Categories((1, 2, 3), ("car", "person", "bus"))
HALF = {"temperature": {"temperature": 2}}  # 0.9 becomes 0.75
DOUBLE = {"platt": {"slope": 2}}  # 0.6 becomes 0.692308


def members(**entries):
    return FusionSection.model_validate({"members": entries}).members


def of(scores, labels):
    count = len(scores)
    return Instances.of(np.tile([0, 0, 10, 10], (count, 1)), scores, labels)


def test_a_members_scores_are_its_calibrations():
    calibrations = Calibrations(members(a={"calibration": HALF}))
    np.testing.assert_allclose(calibrations.apply(of([0.9, 0.5], [0, 1]), "a").scores, [0.75, 0.5], rtol=1e-6)


def test_other_members_are_left_alone():
    calibrations = Calibrations(members(a={"calibration": HALF}, b={"weight": 2}))
    found = of([0.9, 0.5], [0, 1])
    assert calibrations.apply(found, "b") is found
    assert calibrations.apply(found, "c") is found


def test_a_class_by_itself_wins_over_the_members_own():
    entries = members(a={"calibration": HALF, "class_calibration": {"bus": {"platt": {"slope": 2}}, "person": "platt"}})
    calibrated = Calibrations(entries, CATEGORIES.names).apply(of([0.9, 0.9, 0.6, 0.9], [0, 1, 2, 0]), "a")
    np.testing.assert_allclose(calibrated.scores, [0.75, 0.9, 0.692308, 0.75], rtol=1e-6)


def test_classes_alone_leave_the_others_as_they_are():
    entries = members(a={"class_calibration": {"bus": HALF}})
    found = of([0.9, 0.9], [2, 0])
    found.scores.flags.writeable = False
    np.testing.assert_allclose(Calibrations(entries, CATEGORIES.names).apply(found, "a").scores, [0.75, 0.9], rtol=1e-6)


def test_nothing_found_is_nothing():
    entries = members(a={"calibration": HALF, "class_calibration": {"bus": HALF}})
    assert len(Calibrations(entries, CATEGORIES.names).apply(Instances.empty(), "a")) == 0


@pytest.mark.parametrize(
    ("entry", "names", "message"),
    [
        ({"calibration": "plat"}, None, r"^fusion\.members\.a\.calibration: expected .*; got 'plat'; did you mean"),
        (
            {"calibration": {"platt": {"slope": "steep"}}},
            None,
            r"^fusion\.members\.a\.calibration\.platt\.slope: .*; got 'steep'$",
        ),
        (
            {"class_calibration": {"busses": HALF}},
            CATEGORIES.names,
            r"^fusion\.members\.a\.class_calibration: .*of car, person, bus; got 'busses'; did you mean 'bus'\?$",
        ),
        (
            {"class_calibration": {"bus": {"isotonic": {"knots": [[1, 1], [0, 0]]}}}},
            CATEGORIES.names,
            r"^fusion\.members\.a\.class_calibration\.bus\.isotonic\.knots: expected scores that rise",
        ),
        ({"class_calibration": {"bus": HALF}}, None, r"^fusion\.members\.a\.class_calibration: .*table.*; got none$"),
        (
            {"class_calibration": {"bus": HALF}},
            tuple(f"class {i}" for i in range(80)),
            r"expected some of the ensemble's 80 classes; got 'bus'$",
        ),
    ],
)
def test_mistakes_name_the_key(entry, names, message):
    with pytest.raises(ConfigError, match=message):
        Calibrations(members(a=entry), names)


# ------------------------------------------------------------------------------------------- In the fusion

A, B = View("a", 400), View("b", 400)


def fused(section, views, categories=CATEGORIES):
    return Fuser(FusionSection.model_validate(section), categories).fuse(views, image_hw=(100, 100))


def test_fusion_compares_calibrated_scores():
    views = {A: of([0.9], [0]), B: Instances.of([[1, 0, 11, 10]], [0.8], [0])}
    assert fused({}, views).source.tolist() == [0]
    found = fused({"members": {"a": {"calibration": HALF}}}, views)
    assert found.source.tolist() == [1]


def test_calibration_comes_before_boost_and_weight():
    section = {
        "members": {"a": {"calibration": HALF, "weight": 1}, "b": {"weight": 2}},
        "rare_boost": {"delta": 0.2, "classes": ["bus"]},
    }
    fuser = Fuser(FusionSection.model_validate(section), CATEGORIES)
    found = fuser.fuse({A: of([0.9], [2])}, image_hw=(100, 100), sources=[A, B])
    assert found.scores.tolist() == [pytest.approx(0.75 * 1.2 * 0.5)]


def test_a_fuser_refuses_a_wrong_calibration():
    with pytest.raises(ConfigError, match=r"^fusion\.members\.a\.class_calibration: .*did you mean 'car'"):
        fused({"members": {"a": {"class_calibration": {"cat": HALF}}}}, {})


def random_views(seed, count=300):
    """Two hundred scores, hence many ties, in three classes."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 80, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(5, 20, (count, 2))], axis=1)
    masks = BoxMasks(boxes.astype(np.float32), np.ones((count, 4, 4), dtype=np.float16))
    return Instances.of(boxes, rng.integers(1, 200, count) / 200, rng.integers(0, 3, count), masks)


KNOTS = [[0, 0], [0.1, 0.02], [0.5, 0.1], [0.8, 0.7], [1, 0.9]]


@pytest.mark.parametrize(
    "calibration", [HALF, DOUBLE, {"isotonic": {"knots": KNOTS}}], ids=["temperature", "platt", "isotonic"]
)
def test_what_one_member_finds_stays_in_its_order(calibration):
    views = {A: random_views(0), View("a", 800): random_views(1)}
    plain = fused({"top_k": 1000}, views)
    calibrated = fused({"top_k": 1000, "members": {"a": {"calibration": calibration}}}, views)
    np.testing.assert_array_equal(plain.boxes, calibrated.boxes)
    np.testing.assert_array_equal(plain.labels, calibrated.labels)
    assert (plain.scores != calibrated.scores).any()


@pytest.mark.parametrize(
    "calibration", [HALF, DOUBLE, {"isotonic": {"knots": KNOTS}}], ids=["temperature", "platt", "isotonic"]
)
def test_ap_of_one_member_is_what_it_was(tmp_path, calibration):
    rng = np.random.default_rng(7)
    records = [ImageRecord(i, f"{i}.png", tmp_path / f"{i}.png", 100, 100) for i in range(1, 9)]
    found = {record.id: random_views(record.id) for record in records}
    entries = [
        {"id": i, "image_id": image_id, "category_id": int(label) + 1, "area": 100.0, "iscrowd": 0}
        | {"bbox": np.concatenate([box[:2], box[2:] - box[:2]]).astype(float).tolist()}
        for image_id, one in found.items()
        for i, (box, label) in enumerate(zip(one.boxes, one.labels, strict=True), start=1000 * image_id)
        if rng.random() < one.scores[i - 1000 * image_id] ** 2
    ]
    dataset = CocoDataset(tmp_path / "gt.json", records, CATEGORIES, entries)

    def score(section):
        results = [
            line
            for image_id, one in found.items()
            for line in to_results(
                fused(section, {A: one.without_masks()}), image_id=image_id, categories=CATEGORIES, size_hw=(100, 100)
            )
        ]
        return evaluate(dataset, results, kinds=("bbox",))["bbox"]

    plain = score({})
    assert 0.1 < plain.AP < 0.9
    assert score({"members": {"a": {"calibration": calibration}}}) == plain
