"""Values of an ensemble that fit their type and still cannot work: refused when the file is read."""

import re
from pathlib import Path

import pytest
import yaml

from tis_ray.config import Ensemble, dump, parse
from tis_ray.errors import ConfigError
from tis_ray.views import View

ENSEMBLE = {"members": {"a": {"checkpoint": "a", "scales": [64]}}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["limits.deadline_s=301"], r"limits: deadline_s: expected at most max_deadline_s, 300; got .*"),
        (["limits.max_deadline_s=10"], r"limits: deadline_s: expected at most max_deadline_s, 10; got .*"),
        (
            ["replicas.default.autoscaling={min_replicas: 3, max_replicas: 2}"],
            r"replicas\.default\.autoscaling: min_replicas: expected at most max_replicas, 2; got .*",
        ),
        (
            ["replicas.fusion={num_replicas: 2, autoscaling: {max_replicas: 3}}"],
            r"replicas\.fusion: num_replicas: expected none beside autoscaling.*",
        ),
        (
            ["replicas.default.autoscaling={max_replicas: 2, upscale_delay_s: 20}"],
            r"replicas\.default\.autoscaling: upscale_delay_s: expected more than look_back_period_s, 20, .*; got 20",
        ),
        (
            ["replicas.default.autoscaling={max_replicas: 2, look_back_period_s: 700, upscale_delay_s: 800}"],
            r"replicas\.default\.autoscaling: downscale_delay_s: expected more than look_back_period_s, 700.* got 600",
        ),
        (
            ["replicas.default.autoscaling={min_replicas: 2, max_replicas: 3, initial_replicas: 1}"],
            r"replicas\.default\.autoscaling: initial_replicas: expected 2 to 3, .*; got 1",
        ),
        (
            ["replicas.default.autoscaling.downscaling_factor=1"],
            r"replicas\.default\.autoscaling\.downscaling_factor: .* less than 1; got 1",
        ),
        (["replicas.default.autoscaling.min_replicas=0"], r"replicas\.default\.autoscaling\.min_replicas: .*; got 0"),
        (["replicas.default.max_surge_percent=101"], r"replicas\.default\.max_surge_percent.*: expected auto or 0 .*"),
        (["replicas.default.rolling_update_percentage=0"], r"replicas\.default\.rolling_update_percentage: .*; got 0"),
        (["replicas.default.num_gpus=-1"], r"replicas\.default\.num_gpus.*: expected auto, a share .*; got -1"),
        (["replicas.default.num_gpus=1.5"], r"replicas\.default\.num_gpus.*: expected auto, a share .*; got 1\.5"),
        (["replicas.default.num_gpus=.inf"], r"replicas\.default\.num_gpus.*: expected auto, a share .*"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_values_that_would_fail_late_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=f"^all.yaml: {message}$"):
        parse(Ensemble, ENSEMBLE, overrides, source="all.yaml")


TWO = {"members": {name: {"checkpoint": name, "scales": [64]} for name in ("a", "b")}}


def roles(**of: str) -> dict[str, object]:
    return {name: {"role": role} for name, role in of.items()}


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (
            {"members": roles(a="masks", b="masks")},
            r"fusion\.members: expected a member whose boxes count; got role masks",
        ),
        (
            {"members": roles(a="boxes", b="boxes"), "second_pass": True},
            r"fusion\.second_pass: expected a member whose masks count; got role boxes for all",
        ),
        (
            {"rules": ["mask_nms"], "second_pass": True},
            r"fusion\.second_pass: expected false beside the rule mask_nms, .*; got true",
        ),
        ({"preset": "tis", "rules": ["mask_nms"]}, r"fusion\.second_pass: expected false beside the rule mask_nms, .*"),
        ({"members": roles(a="mask")}, r"fusion\.members\.a\.role: .*'both', 'boxes' or 'masks'.*"),
        ({"second_pass": "late"}, r"fusion\.second_pass: .*"),
    ],
    ids=str,
)
def test_roles_and_passes_that_leave_nobody_to_do_the_work_are_refused(fusion, message):
    with pytest.raises(ConfigError, match=f"^all.yaml: {message}"):
        parse(Ensemble, {**TWO, "fusion": fusion}, source="all.yaml")


@pytest.mark.parametrize(
    "fusion",
    [
        {"members": roles(a="boxes", b="masks")},
        {"members": roles(a="boxes", b="boxes")},
        {"preset": "megdet", "members": roles(a="boxes", b="boxes")},
        {"preset": "tis", "second_pass": False, "rules": ["mask_nms"]},
        {"members": roles(a="boxes", b="masks"), "second_pass": True, "rules": ["mask_nms"]},
        {"members": roles(b="masks"), "second_pass": True},
    ],
    ids=str,
)
def test_roles_and_passes_that_can_be(fusion):
    ensemble = parse(Ensemble, {**TWO, "fusion": fusion}, source="all.yaml")
    assert parse(Ensemble, dump(ensemble), source="dump") == ensemble


def test_the_presets_of_the_two_pass_papers_ask_for_a_second_pass_unless_it_is_said_otherwise():
    passes = {
        str(fusion): parse(Ensemble, {**TWO, "fusion": fusion}, source="all.yaml").fusion.second_pass
        for fusion in ({}, "tis", "megdet", "lvis", {"preset": "tis", "second_pass": False})
    }
    assert list(passes.values()) == [False, True, True, False, False]


@pytest.mark.parametrize("num_gpus", ["auto", 0, 0.25, 1, 2])
def test_an_ensemble_reads_back_what_it_writes(num_gpus):
    replicas = {"default": {"num_gpus": num_gpus, "autoscaling": {"min_replicas": 2, "max_replicas": 2}}}
    ensemble = parse(Ensemble, ENSEMBLE | {"replicas": replicas}, source="all.yaml")
    assert ensemble.replica("a@64").num_gpus == num_gpus
    assert parse(Ensemble, dump(ensemble), source="dump") == ensemble


# ------------------------------------------------------------------------------------------- Crops, grids and groups

STRIP = {"box": [0, 1560, 3384, 2280], "scales": [720, 1080]}
TILES = {"tiles": {"width": 1024, "height": 768, "overlap": 128}, "scales": [768]}


def member(**content: object) -> Ensemble:
    return parse(Ensemble, {"members": {"a": {"checkpoint": "a", "flip": False, **content}}}, source="all.yaml")


def test_crops_and_grids_are_views_with_names():
    ensemble = member(scales=[600], max_long_edge=2000, crops={"strip": STRIP, "grid": TILES})
    assert ensemble.views == (
        View("a", 600, max_long_edge=2000),
        View("a", 720, False, (0, 1560, 3384, 2280), 2000, "strip", gives_way=True),
        View("a", 768, False, (), 2000, "grid", (1024, 768, 128), gives_way=True),
        View("a", 1080, False, (0, 1560, 3384, 2280), 2000, "strip", gives_way=True),
    )
    assert list(ensemble.deployments) == ["a@1080.strip", "a@600", "a@720.strip", "a@768.grid"]


def test_a_crop_gives_way_to_another_members_view_and_to_nothing_where_it_is_alone():
    content = {"members": {"a": {"checkpoint": "a", "crops": {"strip": STRIP}}}}
    alone = parse(Ensemble, content, source="all.yaml")
    assert [view.gives_way for view in alone.views] == [False] * 4
    content["members"]["b"] = {"checkpoint": "b", "scales": [600]}
    both = parse(Ensemble, content, source="all.yaml")
    assert {view.key: view.gives_way for view in both.views} == {
        "a@720.strip": True,
        "a@1080.strip": True,
        "b@600": False,
    }


def test_groups_put_views_on_one_deployment_and_leave_the_others_theirs():
    ensemble = member(
        scales=[600, 800, 1000],
        flip=True,
        crops={"strip": STRIP, "grid": TILES},
        groups={"low": [600, "800", "720.strip"], "tiled": ["768.grid"]},
    )
    assert {name: [view.name.split("/crop")[0] for view in views] for name, views in ensemble.deployments.items()} == {
        "a@1000": ["a@1000", "a@1000/flip"],
        "a@1080.strip": ["a@1080.strip", "a@1080.strip/flip"],
        "a@low": ["a@600", "a@600/flip", "a@720.strip", "a@720.strip/flip", "a@800", "a@800/flip"],
        "a@tiled": ["a@768.grid/tiles=1024,768,128", "a@768.grid/flip/tiles=1024,768,128"],
    }
    assert sorted(view for views in ensemble.deployments.values() for view in views) == list(ensemble.views)


def test_ranges_go_by_view_and_replicas_by_deployment():
    content = {"checkpoint": "a", "scales": [600], "crops": {"strip": STRIP}, "groups": {"low": [600, "720.strip"]}}
    ensemble = parse(
        Ensemble,
        {
            "members": {"a": content},
            "fusion": {"ranges": {"a@720.strip": [0, 96], "@600": [64, 9000]}},
            "replicas": {"a@low": {"num_replicas": 2}, "default": {"num_cpus": 3}},
        },
        source="all.yaml",
    )
    assert ensemble.replica("a@low").num_replicas == 2
    assert ensemble.replica("a@1080.strip").num_cpus == 3
    assert parse(Ensemble, dump(ensemble), source="dump") == ensemble
    with pytest.raises(ConfigError, match=r"replicas\.a@600: expected one of a@1080\.strip, a@low, default, .*"):
        parse(Ensemble, dump(ensemble), ["replicas.a@600={num_cpus: 1}"], source="all.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": []}, r"scales: expected at least one, here or under crops; got none"),
        ({"crops": {"strip": {"box": [0, 0, 9, 9]}}}, r"crops\.strip\.scales: this key is required"),
        ({"crops": {"strip": STRIP | {"scales": []}}}, r"crops\.strip\.scales: .*at least 1 item.*"),
        ({"crops": {"strip": {"scales": [9]}}}, r"crops\.strip: expected either box or tiles.*"),
        ({"crops": {"strip": STRIP | TILES}}, r"crops\.strip: expected either box or tiles.*"),
        ({"crops": {"strip": STRIP | {"box": [9, 0, 9, 9]}}}, r"crops\.strip: box: .*x1 < x2.*got \[9, 0, 9, 9\].*"),
        ({"crops": {"strip": STRIP | {"box": [-1, 0, 9, 9]}}}, r"crops\.strip: box: expected 0 <= x1.*"),
        ({"crops": {"7": STRIP}}, r"'7': expected a name .* no digit first.*"),
        ({"crops": {"a/b": STRIP}}, r"'a/b': expected a name.*"),
        ({"groups": {"600": [64]}}, r"'600': expected a name .* no digit first.*"),
        ({"groups": {"low": []}}, r"groups\.low: .*at least 1 item.*"),
        ({"groups": {"low": [65]}}, r"groups: expected some of 64; got 65.*"),
        ({"groups": {"low": [64], "high": [64]}}, r"groups: expected each scale once; got 64 twice.*"),
        ({"crops": {"grid": {"tiles": {"width": 9, "height": 9}, "scales": [9]}}}, r".*overlap: this key is required"),
        (
            {"crops": {"grid": {"tiles": {"width": 90, "height": 40, "overlap": 21}, "scales": [9]}}},
            r"crops\.grid\.tiles: overlap: expected at most half a tile's side, 20; got 21.*",
        ),
        ({"preset": "tiss"}, r"preset: .*'tis'.*"),
        ({"preset": ["tis"]}, r"preset: .*"),
    ],
    ids=str,
)
def test_views_that_cannot_be_are_refused_with_the_member(changes, message):
    content = {"members": {"a": {"checkpoint": "a", "scales": [64], **changes}}}
    with pytest.raises(ConfigError, match=rf"^all\.yaml: members\.a[.:] ?{message}$"):
        parse(Ensemble, content, source="all.yaml")


def test_the_ensembles_of_the_documentation_can_be_read():
    page = Path(__file__).parents[1] / "docs" / "ensembles.md"
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    strip, grid, grouped = (parse(Ensemble, block, source=page.name) for block in blocks if "members" in block)
    (inference,) = (block["inference"] for block in blocks if "inference" in block)
    assert parse(Ensemble, ENSEMBLE | {"inference": inference}, source=page.name).inference.sizes_hw == ((2710, 3384),)
    assert {view.key for view in strip.views} == {"lite0@900", "lite0@720.strip", "lite0@1440.strip"}
    assert {view.network_hw((2710, 3384)) for view in strip.views if view.scale == 1440} == {(1440, 6768)}
    assert {len(view.tiles((2710, 3384))) for view in grid.views if view.tile} == {16}
    assert list(grouped.deployments) == ["r50@1600", "r50@low"]


def test_no_shape_of_image_makes_a_network_input_beyond_all_bounds():
    ensemble = member(scales=[800], crops={"strip": STRIP, "grid": TILES})
    for size_hw in [(1, 50_000), (50_000, 1), (1561, 3384), (1, 1)]:
        for tile in [tile for view in ensemble.views for tile in view.tiles(size_hw)]:
            assert max(tile.network_hw(size_hw)) <= 8000
