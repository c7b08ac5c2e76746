"""Weights move between detectors by name, and class by class where a layer has rows for each."""

import pytest
import torch
from torch import Tensor

from tests.classifiers import every_classifier
from tests.tiny import TINY_DETECTOR, tiny_recipe
from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.models.assembly import build_detector
from tis_ray.models.class_rows import class_rows
from tis_ray.models.detector import Detector
from tis_ray.models.transfer import joined, transfer

HERE = Categories((33, 36, 39, 40), ("car", "person", "bus", "tricycle"), counts=(5, 20, 300, 0))
THERE = Categories((1, 2, 3, 4, 5), ("bus", "train", "human", "car", "zebra"), counts=(5, 20, 300, 4000, 9))
NAMES = {"person": "human"}
PAIRS = {0: 3, 1: 2, 2: 0}
LAYER, BOXES = "roi_heads.stages.0.classifier.layer", "roi_heads.stages.0.regressor"
MASKS = "roi_heads.mask_branch.heads.0.logits"


def build(
    categories: Categories, *, seed: int = 0, box: dict[str, object] | None = None, **changed: object
) -> Detector:
    """A tiny detector, all of whose parameters are random."""
    torch.manual_seed(seed)
    section = {**TINY_DETECTOR, **changed, "box": {**TINY_DETECTOR["box"], **(box or {})}}
    detector = build_detector(tiny_recipe(detector=section).detector, categories)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.uniform_(-1, 1)
    return detector


def states(source: Detector, target: Detector, **options: object) -> tuple[dict[str, Tensor], ...]:
    """State dicts of the source, of the target before and after a transfer, and what it came to."""
    before = {key: value.clone() for key, value in target.state_dict().items()}
    settings = {"source": source, "source_categories": THERE, "names": NAMES} | options
    return source.state_dict(), before, target.state_dict(), transfer(target, HERE, **settings)


def test_rows_of_classes_go_by_name_and_all_else_by_place() -> None:
    given, before, after, done = states(build(THERE, seed=1), build(HERE, seed=2))
    rows_of = {LAYER: 1, BOXES: 4, MASKS: 1}
    for key, value in after.items():
        width = rows_of.get(key.rpartition(".")[0])
        if width is None:
            assert torch.equal(value, given[key]), key
            continue
        rows, theirs, old = (state[key].unflatten(0, (-1, width)) for state in (after, given, before))
        assert torch.equal(rows[0], theirs[0])  # background
        for here, there in PAIRS.items():
            assert torch.equal(rows[here + 1], theirs[there + 1]), key
        assert torch.equal(rows[4], old[4])  # tricycle
    assert done.unknown == ("tricycle",)
    assert done.kept == ()
    assert done.copied == sum(parameter.ndim > 1 for parameter in build(HERE).parameters())


def test_the_source_is_left_as_it_was_and_shares_no_memory() -> None:
    source, target = build(THERE, seed=1), build(HERE, seed=2)
    before = {key: value.clone() for key, value in source.state_dict().items()}
    transfer(target, HERE, source=source, source_categories=THERE, names=NAMES)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())


def test_a_class_that_is_set_to_null_stays() -> None:
    _, before, after, done = states(build(THERE, seed=1), build(HERE, seed=2), names={"car": None})
    assert done.unknown == ("car", "person", "tricycle")
    assert torch.equal(after[f"{LAYER}.weight"][1], before[f"{LAYER}.weight"][1])


def test_two_classes_may_begin_as_one() -> None:
    given, _, after, _ = states(build(THERE, seed=1), build(HERE, seed=2), names={"tricycle": "bus"})
    for row in (3, 4):
        assert torch.equal(after[f"{LAYER}.weight"][row], given[f"{LAYER}.weight"][1])


def test_sigmoids_take_a_softmax_class_against_background() -> None:
    """The logit is then that of the class's share of the two."""
    source, target = build(THERE, seed=1), build(HERE, seed=2, box={"classification": "eql"})
    given, before, after, done = states(source, target)
    for name in (f"{LAYER}.weight", f"{LAYER}.bias"):
        for here, there in PAIRS.items():
            assert torch.equal(after[name][here], given[name][there + 1] - given[name][0])
        assert torch.equal(after[name][3], before[name][3])
    assert done.kept == ()
    features = torch.randn(6, after[f"{LAYER}.weight"].shape[1])
    softmax = source.roi_heads.stages[0].classifier(features).softmax(dim=1)
    eql = target.roi_heads.stages[0].classifier
    for here, there in PAIRS.items():
        share = softmax[:, there + 1] / (softmax[:, there + 1] + softmax[:, 0])
        torch.testing.assert_close(eql.scores(eql(features))[:, here], share)


def test_a_softmax_takes_the_classes_of_sigmoids_and_its_background_stays() -> None:
    given, before, after, _ = states(build(THERE, seed=1, box={"classification": "eql"}), build(HERE, seed=2))
    assert torch.equal(after[f"{LAYER}.weight"][0], before[f"{LAYER}.weight"][0])
    for here, there in PAIRS.items():
        assert torch.equal(after[f"{LAYER}.weight"][here + 1], given[f"{LAYER}.weight"][there])


def test_directions_of_a_cosine_softmax_are_taken_as_they_are() -> None:
    cosine = {"cosine": 20.0}
    given, before, after, done = states(
        build(THERE, seed=1, box={"classification": {"softmax": cosine}}),
        build(HERE, seed=2, box={"classification": {"eql": cosine}}),
    )
    assert torch.equal(after[f"{LAYER}.weight"][0], given[f"{LAYER}.weight"][4])
    assert torch.equal(after[f"{LAYER}.bias"], before[f"{LAYER}.bias"])
    assert done.kept == (f"{LAYER}.bias",)


def test_groups_take_classes_and_background_of_a_softmax() -> None:
    given, before, after, _ = states(build(THERE, seed=1), build(HERE, seed=2, box={"classification": "group_softmax"}))
    name = f"{LAYER}.weight"
    assert torch.equal(after[name][0], given[name][0])
    assert torch.equal(after[name][1:6], before[name][1:6])
    for here, there in PAIRS.items():
        assert torch.equal(after[name][6 + here], given[name][1 + there])


@pytest.mark.parametrize(("bounds", "shared"), [([10, 100, 1000], 6), ([10, 50, 1000], 4)])
def test_groups_take_the_shared_rows_of_groups_of_the_same_bounds(bounds: list[int], shared: int) -> None:
    given, before, after, _ = states(
        build(THERE, seed=1, box={"classification": "group_softmax"}),
        build(HERE, seed=2, box={"classification": {"group_softmax": {"bounds": bounds}}}),
    )
    name = f"{LAYER}.bias"
    same = [torch.equal(after[name][row], given[name][row]) for row in range(6)]
    assert sum(same) == shared
    assert same == [not torch.equal(after[name][row], before[name][row]) for row in range(6)]


def test_what_does_not_fit_stays_and_is_named_as_a_whole() -> None:
    target = build(HERE, seed=2, box={"head": {"mlp": {"hidden": 16}}, "class_agnostic": True})
    given, before, after, done = states(build(THERE, seed=1), target)
    stays = ("roi_heads.stages.0.head", f"{LAYER}.weight", BOXES)
    assert done.kept == stays
    for key, value in after.items():
        if key.startswith(stays):
            assert torch.equal(value, before[key]), key
        elif not key.startswith((LAYER, MASKS)):
            assert torch.equal(value, given[key]), key


def test_branches_that_the_source_lacks_stay() -> None:
    target = build(HERE, seed=2, box={"cascade": {}})
    _, _, _, done = states(build(THERE, seed=1, mask=None), target)
    assert set(done.kept) == {
        "roi_heads.stages.0.regressor",  # of no class here
        "roi_heads.stages.1",
        "roi_heads.stages.2",
        "roi_heads.mask_branch",
    }


def test_another_backbone_gives_nothing_of_itself() -> None:
    _, _, _, done = states(build(THERE, seed=1), build(HERE, seed=2, backbone="resnet18"))
    assert "backbone" in done.kept
    assert done.copied > 0


@pytest.mark.parametrize("plain", ["source", "target"])
def test_plain_and_deformable_convolutions_begin_as_each_other(plain: str) -> None:
    backbones = {"source": {"resnet18": {"deformable": True}}, "target": {"resnet18": {"deformable": True}}}
    backbones[plain] = "resnet18"
    source, target = (build(HERE, seed=seed, backbone=backbones[name]) for seed, name in enumerate(backbones))
    with torch.no_grad():
        for detector in (source, target):
            for name, parameter in detector.named_parameters():
                if ".offsets." in name:
                    parameter.zero_()
    transfer(target, HERE, source=source, source_categories=HERE, names={})
    image = torch.rand(1, 3, 64, 64)
    expected, found = (detector.eval().backbone(image) for detector in (source, target))
    for level, other in zip(found, expected, strict=True):
        scale = other.abs().max()
        assert 0 < scale < float("inf")
        torch.testing.assert_close(level / scale, other / scale)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"lorry": "car"}, r"start\.classes: expected classes among car, person, bus, tricycle; got 'lorry'"),
        (
            {"person": "man"},
            r"start\.classes\.person: expected a class of the checkpoint or null: bus, .*zebra; got 'man'",
        ),
    ],
)
def test_classes_that_nobody_knows_are_refused_with_the_choices(names: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        joined(HERE, THERE, names)


def test_tables_without_a_common_class_join_nothing() -> None:
    assert joined(Categories((1,), ("a",)), THERE, {}) == {}


@pytest.mark.parametrize("classifier", every_classifier())
def test_every_classifier_says_what_its_rows_are(classifier: tuple[str, dict[str, object]]) -> None:
    """Else classes of another table would be taken for its own where there are as many."""
    detector = build(HERE, box={"classification": dict([classifier])})
    rows = class_rows(detector)
    assert LAYER in rows, f"expected {classifier[0]} to wrap its `layer` in `with_class_rows`"
    assert set(rows) == {LAYER, BOXES, MASKS}
    for layer, said in rows.items():
        assert len(detector.get_parameter(f"{layer}.weight")) == said.width * (len(said.shared) + len(HERE))
        assert len(set(said.shared)) == len(said.shared)
