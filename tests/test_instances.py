"""The core tables: what they refuse, and that every operation keeps fields together."""

from dataclasses import replace

import numpy as np
import pytest

from tis_ray.errors import ConfigError, DataError, InputError
from tis_ray.instances import Annotations, Categories, Instances
from tis_ray.masks import BoxMasks, CropMasks, RunMasks
from tis_ray.ops.runs import Runs

BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]], np.float32)


def three(*, masks=True, size=2):
    patches = np.arange(3, dtype=np.float16)[:, None, None] * np.ones((3, size, size), np.float16)
    return Instances.of(
        BOXES, [0.9, 0.5, 0.1], [0, 1, 2], BoxMasks(BOXES, patches) if masks else None, source=[3, 4, 5]
    )


def fields_of(**changed):
    """Constructor arguments of two instances, some of them replaced."""
    fields = {
        "boxes": np.zeros((2, 4), np.float32),
        "scores": np.zeros(2, np.float32),
        "labels": np.zeros(2, np.int32),
        "masks": None,
        "source": np.zeros(2, np.int32),
    }
    return {**fields, **changed}


# -------------------------------------------------------------------------------------------- Instances


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes", np.zeros((2, 5), np.float32), r"boxes: expected float32 of shape \(2, 4\); got .*\(2, 5\)"),
        ("boxes", np.zeros((2, 4)), r"boxes: expected float32 .*; got float64"),
        ("scores", np.zeros(3, np.float32), r"scores: expected float32 of shape \(2,\); got .*\(3,\)"),
        ("scores", np.zeros(2), r"scores: expected float32 .*; got float64"),
        ("labels", np.zeros(2, np.int64), r"labels: expected int32 .*; got int64"),
        ("source", np.zeros((2, 1), np.int32), r"source: expected int32 of shape \(2,\); got .*\(2, 1\)"),
        ("masks", BoxMasks.empty(), r"masks: expected 2, one for each box; got 0"),
    ],
)
def test_instances_of_wrong_form_are_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        Instances(**fields_of(**{field: value}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes", [[0, 0, 1, 1], [0, 0, np.nan, 1]], r"boxes: expected finite numbers; got .*nan.* at position 1"),
        ("boxes", [[0, 0, 1, 1], [0, 0, np.inf, 1]], r"boxes: expected finite numbers; got .*inf.* at position 1"),
        ("boxes", [[0, 3, 1, 1], [0, 0, 1, 1]], r"boxes: expected x1 <= x2 and y1 <= y2; got .* at position 0"),
        ("scores", [0.5, 1.5], r"scores: expected 0\.\.1; got 1\.5 at position 1"),
        ("scores", [-0.5, 0.5], r"scores: expected 0\.\.1; got -0\.5 at position 0"),
        ("scores", [np.nan, 0.5], r"scores: expected 0\.\.1; got nan at position 0"),
        ("labels", [0, 7], r"labels: expected 0\.\.6; got 7 at position 1"),
        ("labels", [-1, 0], r"labels: expected 0\.\.6; got -1 at position 0"),
    ],
)
def test_values_no_step_could_use_are_refused(field, value, message):
    value = np.array(value, np.int32 if field == "labels" else np.float32)
    with pytest.raises(InputError, match=message):
        Instances(**fields_of(**{field: value})).check_values(num_classes=7)


def test_values_at_the_limits_pass():
    instances = Instances.of([[0, 0, 0, 0], [-5, -5, 9, 9]], [0, 1], [0, 6])
    instances.check_values(num_classes=7)
    Instances.empty().check_values(num_classes=0)


@pytest.mark.parametrize("index", [[2, 0], np.array([True, False, True]), slice(1, None), np.array([], np.int64)])
def test_indexing_keeps_fields_together(index):
    chosen = three()[index]
    expected = np.arange(3)[index]
    np.testing.assert_array_equal(chosen.boxes, BOXES[expected])
    np.testing.assert_array_equal(chosen.labels, expected)
    np.testing.assert_array_equal(chosen.source, expected + 3)
    np.testing.assert_array_equal(chosen.scores, np.float32([0.9, 0.5, 0.1])[expected])
    np.testing.assert_array_equal(chosen.masks.probabilities[:, 0, 0], expected)


def test_of_converts_lists_and_spreads_one_source():
    instances = Instances.of([[0, 0, 1, 1]] * 2, [0.5, 0.25], [1, 0], source=7)
    assert instances.boxes.dtype == instances.scores.dtype == np.float32
    assert instances.labels.dtype == instances.source.dtype == np.int32
    assert instances.source.tolist() == [7, 7]
    instances.source[0] = 1  # an array of its own
    assert instances.source.tolist() == [1, 7]


def test_empty_has_the_promised_shapes():
    assert Instances.empty().boxes.shape == (0, 4)
    assert Instances.empty().masks is None
    assert Instances.empty(mask_size=14).masks.probabilities.shape == (0, 14, 14)


def test_concatenate_joins_in_order_with_the_largest_patch():
    joined = Instances.concatenate([three(size=2), Instances.empty(), three(size=4)[[1]]])
    assert joined.labels.tolist() == [0, 1, 2, 1]
    assert joined.source.tolist() == [3, 4, 5, 4]
    assert joined.masks.probabilities.shape == (4, 4, 4)
    assert joined.masks.probabilities[:, 0, 0].tolist() == [0, 1, 2, 1]


def test_concatenate_of_nothing_is_empty():
    assert len(Instances.concatenate([])) == 0
    assert Instances.concatenate([Instances.empty(), Instances.empty()]).masks is None


def test_concatenate_says_which_instances_lack_a_mask():
    masks = Instances.concatenate([three(masks=False), three(), Instances.empty()]).masks
    assert masks.present.tolist() == [False] * 3 + [True] * 3
    assert masks.size == three().masks.size
    np.testing.assert_array_equal(masks[3:].probabilities, three().masks.probabilities)


def test_concatenate_keeps_pixels_and_absence():
    runs = RunMasks(Runs(9, 9, np.array([[0, 5]]), np.array([0, 1])))
    one = Instances.of([[0, 0, 1, 5]], [0.5], [0], runs)
    masks = Instances.concatenate([three(masks=False), one]).masks
    assert masks.present.tolist() == [False] * 3 + [True]
    assert masks.to_rle(9, 9)[:3] == [None] * 3
    assert masks.to_rle(9, 9)[3] == runs.to_rle(9, 9)[0]


def test_concatenate_refuses_masks_of_two_kinds():
    runs = RunMasks(Runs.empty(9, 9, count=1))
    with pytest.raises(InputError, match="masks: expected masks of one kind; got patches in some parts and pixels"):
        Instances.concatenate([three(), Instances.of([[0, 0, 1, 5]], [0.5], [0], runs)])


def test_operations_return_new_objects():
    before = three()
    assert before.with_scores(np.zeros(3)).scores.tolist() == [0, 0, 0]
    assert before.with_scores(np.zeros(3)).scores.dtype == np.float32
    assert before.from_view(9).source.tolist() == [9, 9, 9]
    assert before.without_masks().masks is None
    assert before.scores.tolist() == np.float32([0.9, 0.5, 0.1]).tolist()
    assert before.source.tolist() == [3, 4, 5]
    with pytest.raises(AttributeError):
        before.scores = np.zeros(3, np.float32)


def test_relabelled_maps_and_drops():
    assert three().relabelled(np.array([5, 6, 7], np.int32)).labels.tolist() == [5, 6, 7]
    dropped = three().relabelled(np.array([-1, 6, -1], np.int32))
    assert dropped.labels.tolist() == [6]
    assert dropped.source.tolist() == [4]
    assert len(Instances.empty().relabelled(np.array([-1], np.int32))) == 0


# ------------------------------------------------------------------------------------------ Annotations


def test_annotations_are_indexed_and_checked():
    masks = CropMasks(np.zeros((3, 2), np.int32), tuple(np.ones((i, i), np.uint8) for i in (1, 2, 3)))
    annotations = Annotations(BOXES, np.arange(3, dtype=np.int32), masks, np.array([False, True, False]))
    chosen = annotations[[2, 1]]
    assert len(annotations) == 3
    assert chosen.labels.tolist() == [2, 1]
    assert chosen.crowd.tolist() == [False, True]
    assert chosen.masks.areas().tolist() == [9, 4]
    assert chosen.stuff is None
    mapped = replace(annotations, stuff=np.full((4, 5), 255, np.uint8))
    assert mapped[[2, 1]].stuff is mapped.stuff
    for wrong in (np.zeros((4, 5), np.int32), np.zeros((4, 5, 3), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(InputError, match=r"stuff: expected uint8 of shape"):
            replace(annotations, stuff=wrong)
    with pytest.raises(InputError, match="masks: expected 3, one for each box; got 2"):
        Annotations(BOXES, annotations.labels, masks[:2], annotations.crowd)
    with pytest.raises(InputError, match=r"crowd: expected bool of shape \(3,\); got uint8"):
        Annotations(BOXES, annotations.labels, masks, annotations.crowd.astype(np.uint8))


# ------------------------------------------------------------------------------------------- Categories


LVIS = [
    {"id": 7, "name": "zebra", "frequency": "f", "instance_count": 900, "image_share": 0.1, "area_ratio": 0.5},
    {"id": 3, "name": "acorn", "frequency": "r", "instance_count": 4, "image_share": 0.0003, "area_ratio": 0.25},
]


def test_categories_come_back_from_json_in_the_order_of_ids():
    categories = Categories.from_json(LVIS)
    shares, ratios = (0.0003, 0.1), (0.25, 0.5)
    assert categories == Categories((3, 7), ("acorn", "zebra"), (), ("r", "f"), (4, 900), shares, ratios)
    assert categories.to_json() == sorted(LVIS, key=lambda entry: entry["id"])
    assert Categories.from_json(categories.to_json()) == categories
    assert len(Categories.from_json([])) == 0


def test_a_column_that_some_entries_lack_is_left_out():
    categories = Categories.from_json([{"id": 1, "name": "a", "supercategory": "s"}, {"id": 2, "name": "b"}])
    assert categories.supercategories == ()
    assert categories.to_json() == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((1, 1), ("a", "b")), r"categories\.ids: expected each once; got twice: \[1\]"),
        (((1, 2), ("a", "a")), r"categories\.names: expected each once; got twice: \['a'\]"),
        (((1, 2), ("a",)), r"categories\.names: expected 2 entries; got 1"),
        (((1,), ()), r"categories\.names: expected 1 entries; got 0"),
        (((1, 2), ("a", "b"), ("s",)), r"categories\.supercategories: expected 2 entries; got 1"),
        (((1, 2), ("a", "b"), (), ("r", "c", "f")), r"categories\.frequency: expected 2 entries; got 3"),
        (((1, 2), ("a", "b"), (), (), (), (0.5,)), r"categories\.image_shares: expected 2 entries; got 1"),
        (((1,), ("a",), (), (), (-1,)), r"categories\.counts: expected whole numbers of at least 0; got -1"),
        (((1,), ("a",), (), (), (None,)), r"categories\.counts: expected whole numbers of at least 0; got None"),
        (((1,), ("a",), (), (), (), (1.5,)), r"categories\.image_shares: expected numbers in 0\.\.1; got 1\.5"),
        (((1,), ("a",), (), (), (), ("1",)), r"categories\.image_shares: expected numbers in 0\.\.1; got '1'"),
        (((1, 2), ("a", "b"), (), (), (), (), (1,)), r"categories\.area_ratios: expected 2 entries; got 1"),
        (((1,), ("a",), (), (), (), (), (-0.1,)), r"categories\.area_ratios: expected numbers in 0\.\.1; got -0\.1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Categories(*fields)


def test_index_map_joins_by_name():
    here, there = Categories((1, 2), ("bus", "car")), Categories((5, 6, 7), ("car", "person", "bus"))
    mapped = here.index_map(there)
    assert mapped.dtype == np.int32
    assert mapped.tolist() == [2, 0]
    assert three()[:2].relabelled(mapped).labels.tolist() == [2, 0]


def test_a_class_that_is_missing_names_both_tables():
    here, there = Categories((1, 2), ("bus", "lorry")), Categories((5, 6), ("bus", "truck"))
    with pytest.raises(ConfigError) as caught:
        here.index_map(there, key="members.b")
    assert str(caught.value) == (
        "members.b: lorry not among the expected classes (bus, truck); this table has bus, lorry"
    )


def test_masks_that_are_no_numbers_are_refused():
    box = np.array([[0, 0, 4, 4]], np.float32)
    patches = np.full((1, 2, 2), np.nan, np.float16)
    with pytest.raises(InputError, match=r"masks\.probabilities: expected 0\.\.1; got nan at position 0"):
        Instances.of(box, [0.5], [0], BoxMasks(box, patches)).check_values(num_classes=1)
    with pytest.raises(InputError, match=r"masks\.boxes: expected finite numbers; got .*nan.* at position 0"):
        Instances.of(box, [0.5], [0], BoxMasks(box * np.nan, patches)).check_values(num_classes=1)
    with pytest.raises(InputError, match="expected boxes float32 and probabilities float16"):
        BoxMasks(box, patches.astype(np.float32))
