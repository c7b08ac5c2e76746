"""The contract of every menu folder: each module is an option, and exports what the folder promises.

A new menu is one row of `MENUS`; a new module in a folder is tested here without a line written.
"""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tis_ray import menu
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks
from tis_ray.views import View


@dataclass(frozen=True)
class Menu:
    """A folder, the function its modules export and the names of that function's positional parameters."""

    package: str
    function: str
    inputs: tuple[str, ...]


MENUS = [
    Menu("tis_ray.fusion.rules", "merge", ("instances", "pool")),
    Menu("tis_ray.fusion.mask_select", "select", ("instances", "pool")),
    Menu("tis_ray.fusion.calibrations", "calibrate", ("scores",)),
    Menu("tis_ray.models.backbones", "build", ()),
    Menu("tis_ray.models.necks", "build", ("in_channels",)),
    Menu("tis_ray.models.anchors", "build", ("strides",)),
    Menu("tis_ray.models.anchor_matching", "build", ()),
    Menu("tis_ray.models.roi_sampling", "build", ()),
    Menu("tis_ray.models.classification", "build", ("in_channels", "categories")),
    Menu("tis_ray.models.roi_pooling", "build", ("pyramid", "output_size")),
    Menu("tis_ray.models.box_heads", "build", ("in_channels", "pool_size")),
    Menu("tis_ray.data.sampling", "build", ("truth",)),
    Menu("tis_ray.submission.formats", "open_writer", ("path",)),
]
MODULES = [
    pytest.param(entry, name, id=f"{entry.package.removeprefix('tis_ray.')}.{name}")
    for entry in MENUS
    for name in menu.choices(entry.package)
]
RULES = menu.choices("tis_ray.fusion.rules")
POLICIES = menu.choices("tis_ray.fusion.mask_select")
SOURCES = (View("a", 400), View("a", 800))


@pytest.mark.parametrize("entry", MENUS, ids=lambda entry: entry.package)
def test_a_menu_offers_something(entry):
    assert menu.choices(entry.package)


@pytest.mark.parametrize(("entry", "name"), MODULES)
def test_exports_the_agreed_function(entry, name):
    found = menu.pick(entry.package, entry.function, name, key="test")
    parameters = inspect.signature(found).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert tuple(positional) == entry.inputs
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)


@pytest.mark.parametrize(("entry", "name"), MODULES)
def test_options_are_annotated_and_have_defaults_that_pass_their_own_check(entry, name):
    found = menu.pick(entry.package, entry.function, name, key="test")
    options = [p for p in inspect.signature(found).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert all(option.annotation is not option.empty for option in options)
    assert all(option.default is not option.empty for option in options)
    defaults = {option.name: option.default for option in options}
    assert menu.check_options(found, defaults, key="test") == defaults


@pytest.mark.parametrize(("entry", "name"), MODULES)
def test_is_documented(entry, name):
    found = menu.pick(entry.package, entry.function, name, key="test")
    assert found.__doc__
    assert inspect.getmodule(found).__doc__


# ------------------------------------------------------------------------------------- Rules and policies


def some(count, *, classes=3, seed=0):
    """Boxes that overlap a lot, with ties, duplicates and one box without area."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 20, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.integers(1, 15, (count, 2))], axis=1).astype(np.float32)
    boxes[count // 2 :: 7] = boxes[: len(boxes[count // 2 :: 7])]
    boxes[-1:, 2] = boxes[-1:, 0]
    patches = rng.uniform(0, 1, (count, 5, 5)).astype(np.float16)
    scores = rng.choice([0.2, 0.5, 0.55, 0.9], count)
    return Instances.of(
        boxes, scores, rng.integers(0, classes, count), BoxMasks(boxes, patches), source=np.arange(count) % 2
    )


def pool_of(instances, views):
    return Pool.of(instances, views=views, image_hw=(30, 40))


def arrays_of(instances):
    masks = instances.masks
    assert masks is not None
    return [
        instances.boxes,
        instances.scores,
        instances.labels,
        instances.source,
        masks.boxes,
        masks.probabilities,
        masks.present,
    ]


@pytest.fixture(params=RULES)
def merge(request):
    """Every rule of the menu with its default options, on a pool of as many views as brought something."""
    rule = menu.pick("tis_ray.fusion.rules", "merge", request.param, key="test")
    return lambda instances, pool: rule(instances, pool_of(pool, SOURCES[: len(np.unique(pool.source))]))


@pytest.fixture(params=POLICIES)
def select(request):
    """Every mask policy of the menu with its default options; `masked` are the instances whose masks may speak."""
    policy = menu.pick("tis_ray.fusion.mask_select", "select", request.param, key="test")

    def run(instances, pool, views=SOURCES, *, masked=None):
        found = pool_of(pool, views)
        return policy(instances, found if masked is None else replace(found, masked=masked))

    return run


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_rule_keeps_types_and_fields_together(merge, count):
    merged = merge(some(count), some(count))
    assert [a.dtype for a in arrays_of(merged)] == [a.dtype for a in arrays_of(some(count))]
    assert len(merged) <= count
    assert count == 0 or len(merged) >= 1


def test_rule_leaves_one_box_alone(merge):
    one = some(3)[[0]]
    for before, after in zip(arrays_of(one), arrays_of(merge(one, one)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rule_works_without_masks(merge):
    instances = some(40)
    merged, bare = merge(instances, instances), merge(instances.without_masks(), instances.without_masks())
    assert bare.masks is None
    np.testing.assert_array_equal(bare.boxes, merged.boxes)


def test_rule_sorts_by_score_and_gives_none_above_the_best_of_its_class(merge):
    pool = some(40)
    merged = merge(pool[pool.scores < 0.9], pool)
    assert (np.diff(merged.scores) <= 0).all()
    for label in np.unique(merged.labels):
        assert merged.scores[merged.labels == label].max() <= pool.scores[pool.labels == label].max()


def test_rule_leaves_inputs_untouched_even_if_read_only(merge):
    instances, before = some(40), [array.copy() for array in arrays_of(some(40))]
    for array in arrays_of(instances):
        array.flags.writeable = False
    merge(instances, instances)
    for array, old in zip(arrays_of(instances), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_rule_gives_the_same_answer_twice(merge):
    first, second = merge(some(40), some(40)), merge(some(40), some(40))
    for a, b in zip(arrays_of(first), arrays_of(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classes", [1, 1203])
def test_rule_treats_each_class_by_itself(merge, classes):
    instances = some(60, classes=classes, seed=1)
    merged = merge(instances, instances)
    for label in np.unique(instances.labels):
        alone = instances[instances.labels == label]
        expected = merge(alone, instances)  # the pool tells how many views were asked
        actual = merged[merged.labels == label]
        for a, b in zip(arrays_of(actual), arrays_of(expected), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [0, 1, 20])
def test_policy_changes_masks_only(select, count):
    pool = some(40)
    instances = pool[:count]
    selected = select(instances, pool, SOURCES)
    assert selected.masks is not None
    for before, after in zip(arrays_of(instances)[:4], arrays_of(selected)[:4], strict=True):
        np.testing.assert_array_equal(before, after)


def test_policy_gives_probabilities_and_keeps_the_size_of_patches(select):
    pool = some(40)
    masks = select(pool[:20], pool, SOURCES).masks
    assert masks.size == pool.masks.size
    assert ((masks.probabilities >= 0) & (masks.probabilities <= 1)).all()


def test_policy_does_without_the_views_that_failed(select):
    misses_the_image = View("b", 800, crop=(900, 900, 950, 950), crop_name="strip")
    pool = some(40)
    with_it = select(pool[:20], pool, (*SOURCES, misses_the_image))
    for a, b in zip(arrays_of(with_it), arrays_of(select(pool[:20], pool, SOURCES)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_policy_works_without_masks(select):
    bare = some(10).without_masks()
    assert select(bare, bare, SOURCES).masks is None


def as_pixels(instances):
    """The same instances with masks that are pixels."""
    return replace(instances, masks=RunMasks(instances.masks.to_runs(30, 40), instances.masks.present))


@pytest.mark.parametrize("kind", ["patches", "pixels"])
def test_policy_gives_boxes_without_masks_those_of_the_others(select, kind):
    masked = some(40) if kind == "patches" else as_pixels(some(40))
    masks = select(masked[:20].without_masks(), masked.without_masks(), masked=masked).masks
    assert type(masks) is type(masked.masks)
    assert masks.present.all()


@pytest.mark.parametrize("kind", ["patches", "pixels"])
@pytest.mark.parametrize("comes_with", ["None", "absent"])
def test_policy_says_of_a_box_that_nobody_has_a_mask_for_that_it_has_none(select, kind, comes_with):
    near, far = some(20), replace(some(20), boxes=some(20).boxes + np.float32(1000))
    fused = Instances.concatenate([near[:3], far[:3]])
    fused = replace(fused, masks=replace(fused.masks, present=np.zeros(6, np.bool_)))
    masked = near
    if kind == "pixels":
        fused, masked = replace(fused, masks=RunMasks.absent(30, 40, count=6)), as_pixels(near)
    fused = fused.without_masks() if comes_with == "None" else fused
    masks = select(fused, near.without_masks(), masked=masked).masks
    assert masks.present.tolist() == [True] * 3 + [False] * 3
    assert [one is None for one in masks.to_rle(30, 40)] == [False] * 3 + [True] * 3
    assert not select(fused[3:], near.without_masks(), masked=masked).masks.present.any()


def test_policy_invents_no_mask_where_the_pool_has_none(select):
    boxes = some(10).without_masks()
    absent = replace(some(10), masks=BoxMasks.absent(boxes.boxes, 5))
    for nobody in (boxes[:0], some(10)[:0], absent):
        assert not select(absent, boxes, masked=nobody).masks.present.any()
        bare = select(boxes, boxes, masked=nobody).masks
        assert bare is None or not bare.present.any()


def test_policy_takes_masks_whose_detections_score_0(select):
    masked = some(40).with_scores(np.zeros(40))
    assert select(masked[:20].without_masks(), masked, masked=masked).masks.present.all()


def test_policy_works_on_masks_that_are_pixels(select):
    pool = as_pixels(some(40))
    masks = select(pool[:20], pool).masks
    assert isinstance(masks, RunMasks)
    assert masks.present.all()
    masks.check_values()
    assert len(masks.to_runs(30, 40)) == 20


def test_policy_leaves_inputs_untouched_even_if_read_only(select):
    pool, before = some(20), [array.copy() for array in arrays_of(some(20))]
    for array in arrays_of(pool):
        array.flags.writeable = False
    select(pool[:5], pool, SOURCES)
    for array, old in zip(arrays_of(pool), before, strict=True):
        np.testing.assert_array_equal(array, old)
