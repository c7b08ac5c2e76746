"""Recipes and ensembles: what they accept, what they say of a mistake, and overrides from the command line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tis_ray.config import (
    Choice,
    Ensemble,
    FusionSection,
    Recipe,
    Replica,
    dump,
    load_ensemble,
    load_recipe,
    parse,
    read_yaml,
)
from tis_ray.errors import ConfigError
from tis_ray.views import View

RECIPE = {
    "name": "car",
    "data": {"train": {"annotations": "train.json"}},
    "detector": {"backbone": "resnet18"},
}
ENSEMBLE = {
    "members": {
        "r18": {"checkpoint": "runs/r18", "scales": [400, 800]},
        "s05": {"checkpoint": "/runs/s05", "scales": [400], "flip": False, "max_long_edge": 1333},
    }
}


def recipe(*overrides, **keys):
    return parse(Recipe, {**RECIPE, **keys}, overrides, source="car.yaml")


def ensemble(*overrides, **keys):
    return parse(Ensemble, {**ENSEMBLE, **keys}, overrides, source="all.yaml")


# ------------------------------------------------------------------------------------------- Mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["schedule.epoch=3"],
            r"car\.yaml: schedule\.epoch: unknown key; did you mean 'epochs'\?; the keys here are accumulate, .*",
        ),
        (["detektor=1"], r"car\.yaml: detektor: unknown key; did you mean 'detector'\?; the keys here are data, .*"),
        (["zzz=1"], r"car\.yaml: zzz: unknown key; the keys here are data, detector, name, .*"),
        (["detector.mask.pool=1"], r"car\.yaml: detector\.mask\.pool: unknown key; .*pool_size.*"),
        (["data.train.image=x"], r"car\.yaml: data\.train\.image: unknown key; did you mean 'images'\?; .*"),
        (["schedule.epochs=0"], r"car\.yaml: schedule\.epochs: .* greater than 0; got 0"),
        (["schedule.lr=fast"], r"car\.yaml: schedule\.lr: .*number.*; got 'fast'"),
        (["name=a/b"], r"car\.yaml: name: .*pattern.*; got 'a/b'"),
        (["data.scales=[]"], r"car\.yaml: data\.scales: .*at least 1 item.*; got \[\]"),
        (["data={}"], r"car\.yaml: data\.train: this key is required"),
        (["detector.backbone=null"], r"car\.yaml: detector\.backbone: expected a name, or one name .*; got None"),
        (
            ["detector.backbone={resnet18: {}, resnet50: {}}"],
            r"car\.yaml: detector\.backbone: expected a name, or one name with its options .*; got \{.*\}",
        ),
        (["resources.gpus_per_worker=many"], r"car\.yaml: resources\.gpus_per_worker.*; got 'many'.*"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_with_its_key(overrides, message):
    with pytest.raises(ConfigError) as caught:
        recipe(*overrides)
    assert re.fullmatch(message, str(caught.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["members={}"], r"all\.yaml: members: .*at least 1 item.*; got \{\}"),
        (["members.r18.scales=[]"], r"all\.yaml: members\.r18: scales: expected at least one.*; got none"),
        (
            ["members.r18.scales=[400, 400]"],
            r"all\.yaml: members\.r18\.scales: expected different shorter edges of at least 1 px; got \[400, 400\]",
        ),
        (["members.r18.scales=[0]"], r"all\.yaml: members\.r18\.scales: expected different .*; got \[0\]"),
        (
            ["members.r18.scale=9"],
            r"all\.yaml: members\.r18\.scale: unknown key; did you mean 'scales'\?; the keys here are .*scales",
        ),
        (
            ["members.a b.checkpoint=x", "members.a b.scales=[9]"],
            r"all\.yaml: members\.a b: expected a name of letters, digits, '_', '-' and '\.'",
        ),
        (
            ["fusion.ranges.@600=[0, 32]"],
            r"all\.yaml: fusion\.ranges\.@600: expected one of @400, @800, r18@400, r18@800, s05@400",
        ),
        (
            ["fusion.ranges.@400=[32, 32]"],
            r"all\.yaml: fusion\.ranges\.@400: expected 0 <= low < high; got \[32, 32\]",
        ),
        (["fusion.ranges.@400=[-1, 32]"], r"all\.yaml: fusion\.ranges\.@400: expected 0 <= low .*"),
        (["fusion.ranges.@400=[.nan, 32]"], r"all\.yaml: fusion\.ranges\.@400: expected 0 <= low .*"),
        (["fusion.ranges.@400=[32]"], r"all\.yaml: fusion\.ranges\.@400\.1: this key is required"),
        (["fusion.top_k=0"], r"all\.yaml: fusion\.top_k: .* greater than or equal to 1; got 0"),
        (["fusion.score_threshold=1.5"], r"all\.yaml: fusion\.score_threshold: .* less than or equal to 1; got 1\.5"),
        (["fusion.rule=[]"], r"all\.yaml: fusion\.rule: unknown key; did you mean 'rules'\?; .*"),
        (["fusion.rules=[nms, 3]"], r"all\.yaml: fusion\.rules\.1: expected a name, or one name .*; got 3"),
        (
            ["replicas.r18@600.num_cpus=1"],
            r"all\.yaml: replicas\.r18@600: expected one of default, fusion, gateway, r18@400, r18@800, s05@400",
        ),
        (
            ["replicas.default.num_cpu=1"],
            r"all\.yaml: replicas\.default\.num_cpu: unknown key; did you mean 'num_cpus'.*",
        ),
        (["auth=open"], r"all\.yaml: auth: .*'none'; got 'open'"),
    ],
)
def test_a_mistake_in_an_ensemble_is_one_line_with_its_key(overrides, message):
    with pytest.raises(ConfigError) as caught:
        ensemble(*overrides)
    assert re.fullmatch(message, str(caught.value))


# ------------------------------------------------------------------------------------------ Overrides


def test_overrides_are_yaml_values_at_any_depth():
    changed = recipe("schedule.lr=1e-2", "schedule.milestones=[2, 3.5]", "name=bus", "data.max_long_edge=null")
    assert changed.schedule.lr == 0.01
    assert changed.schedule.milestones == (2, 3.5)
    assert changed.name == "bus"
    assert changed.data.max_long_edge is None


def test_a_later_override_wins():
    assert recipe("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("backbone", "overrides", "expected"),
    [
        pytest.param("resnet18", ["detector.backbone=resnet50"], Choice(name="resnet50"), id="another part"),
        pytest.param(
            "resnet18",
            ["detector.backbone.resnet18.norm=group"],
            Choice(name="resnet18", options={"norm": "group"}),
            id="an option for a bare name",
        ),
        pytest.param(
            {"resnet18": None},
            ["detector.backbone.resnet18.norm=group"],
            Choice(name="resnet18", options={"norm": "group"}),
            id="an option for a name with a colon and nothing behind it",
        ),
        pytest.param(
            {"resnet18": {"norm": "batch", "depth": 2}},
            ["detector.backbone.resnet18.norm=group"],
            Choice(name="resnet18", options={"norm": "group", "depth": 2}),
            id="one option of two",
        ),
    ],
)
def test_an_override_reaches_the_options_of_a_part(backbone, overrides, expected):
    assert recipe(*overrides, detector={"backbone": backbone}).detector.backbone == expected


def test_an_override_fills_an_empty_section():
    assert ensemble("fusion.top_k=7", fusion=None).fusion.top_k == 7


def test_an_option_of_a_part_that_is_not_chosen_is_refused():
    with pytest.raises(ConfigError, match=r"detector\.backbone: expected a name, or one name"):
        recipe("detector.backbone.resnet50.norm=group")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.lr", "--set: expected key.path=value; got 'schedule.lr'"),
        ("=3", "--set: expected key.path=value; got '=3'"),
        ("name.x.y=3", "--set name.x.y: 'x' is not a section"),
        ("data.scales.x=3", "--set data.scales.x: 'scales' is not a section"),
        ("data.scales=[1", "--set data.scales: expected a YAML value; got '[1'"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        recipe(override, name={"x": 3}, data={"train": {"annotations": "a"}, "scales": [1]})
    assert str(caught.value) == message


def test_the_content_that_was_read_is_left_untouched():
    content = json.loads(json.dumps(ENSEMBLE))
    parse(Ensemble, content, ["members.r18.flip=false", "fusion.top_k=7"], source="all.yaml")
    assert content == ENSEMBLE


# ---------------------------------------------------------------------------------------------- Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"expected YAML; got .*line 1"),
        ("a: 1\n b: 2\n", r"expected YAML; got "),
        ("- a\n- b\n", r"expected keys and values; got list"),
        ("", r"expected keys and values; got NoneType"),
        ("just words", r"expected keys and values; got str"),
        (b"\xff\xfe\x00", r"expected YAML; got "),
    ],
)
def test_a_file_without_keys_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: {message}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: expected a readable YAML file; got "):
            read_yaml(path)


def test_checkpoints_are_relative_to_the_ensemble_file(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump(ENSEMBLE))
    loaded = load_ensemble(path, ["fusion.top_k=3"])
    assert loaded.members["r18"].checkpoint == tmp_path / "runs/r18"
    assert loaded.members["s05"].checkpoint == Path("/runs/s05")
    assert loaded.fusion.top_k == 3


def test_a_recipe_file_is_read_with_overrides(tmp_path):
    path = tmp_path / "car.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    loaded = load_recipe(path, ["output=out"])
    assert loaded == recipe("output=out")
    assert loaded.run_dir == Path("out/car")


def test_an_unknown_recipe_name_is_refused():
    with pytest.raises(ConfigError, match=r"^recipe: expected a YAML file or one of .*; got 'no_such_recipe'"):
        load_recipe("no_such_recipe")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "tis_ray" / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_is_valid_and_found_by_name(path):
    assert load_recipe(path.stem) == load_recipe(path)


# ------------------------------------------------------------------------------------- Round trips, views


def test_what_is_dumped_is_short_and_reads_back():
    before = recipe("detector.backbone.resnet18.norm=group")
    dumped = dump(before)
    assert dumped["detector"]["backbone"] == {"resnet18": {"norm": "group"}}
    assert dumped["detector"]["neck"] == "fpn"
    assert parse(Recipe, yaml.safe_load(yaml.safe_dump(dumped)), source="dump") == before


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rules": ["nms", {"soft_nms": {"sigma": 0.3}}, {"nms": None}]},
        {"ranges": {"@400": [96, float("inf")], "r18@800": [0, 64]}, "masks": "best"},
        {"rules": []},
    ],
)
def test_a_fusion_section_travels_as_json(keys):
    before = FusionSection.model_validate(keys)
    assert parse(FusionSection, json.loads(json.dumps(dump(before))), source="json") == before


def test_rules_are_written_as_they_are_read():
    rules = ["nms", {"soft_nms": {"sigma": 0.3}}]
    assert dump(FusionSection.model_validate({"rules": rules}))["rules"] == rules


def test_views_are_every_scale_and_flip_in_one_order():
    assert ensemble().views == (
        View("r18", 400, max_long_edge=8000),
        View("r18", 400, True, max_long_edge=8000),
        View("r18", 800, max_long_edge=8000),
        View("r18", 800, True, max_long_edge=8000),
        View("s05", 400, max_long_edge=1333),
    )
    backwards = dict(reversed(ENSEMBLE["members"].items()))
    assert ensemble(members=backwards).views == ensemble().views


def test_a_deployment_without_an_entry_gets_the_default():
    replicas = {"default": {"num_cpus": 2}, "r18@800": {"num_replicas": 3}}
    assert ensemble(replicas=replicas).replica("r18@800") == Replica(num_replicas=3)
    assert ensemble(replicas=replicas).replica("s05@400") == Replica(num_cpus=2)
    assert ensemble().replica("s05@400") == Replica()


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        ensemble().fusion.top_k = 3
