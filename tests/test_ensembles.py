"""The ensembles that ship: winners' systems by name, and the Serve configs that deploy them on a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tis_ray.config import Ensemble, FusionSection, dump, load_ensemble, load_recipe, parse
from tis_ray.config.reading import SHIPPED_ENSEMBLES
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.two_pass import Plan
from tis_ray.instances import Categories

NAMES = sorted(path.stem for path in SHIPPED_ENSEMBLES.glob("*.yaml"))
DEPLOYMENTS = Path(__file__).parents[1] / "deployments"
BOXES, BOTH, MASKS = Plan(True, False, False), Plan(True, False, True), Plan(False, False, True)
LVIS = Categories((1,), ("a",), frequency=("r",))


def deployed(name: str) -> tuple[Ensemble, dict[str, Any]]:
    """The ensemble of a Serve config, and the whole config."""
    content: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / f"{name}.yaml").read_text())
    (application,) = content["applications"]
    return parse(Ensemble, application["args"], source=name), content


def scales(ensemble: Ensemble, member: str) -> list[tuple[int, bool]]:
    return sorted((view.scale, view.flip) for view in ensemble.views if view.member == member)


def mirrored(*edges: int) -> list[tuple[int, bool]]:
    return [(edge, flip) for edge in edges for flip in (False, True)]


def plans(ensemble: Ensemble) -> dict[str, Plan]:
    fuser = Fuser(ensemble.fusion, LVIS)
    return {view.member: fuser.plan(view) for view in ensemble.views}


def test_those_of_the_three_papers_are_there() -> None:
    assert NAMES == ["coco_2019", "lvis_2020", "wad_2018"]


def test_the_wad_2018_winner_has_sixty_views_that_bring_boxes_and_then_masks_of_the_voted_ones() -> None:
    ensemble = load_ensemble("wad_2018")
    assert list(ensemble.members) == ["tis_r152_psp", "tis_r152_psp_2", "tis_se152"]
    for name in ensemble.members:
        assert scales(ensemble, name) == mirrored(*range(1810, 4511, 300))
    assert {view.max_long_edge for view in ensemble.views} == {8000}
    assert ensemble.fusion == FusionSection(preset="tis")
    assert set(plans(ensemble).values()) == {BOTH}


def test_the_coco_2019_winner_has_three_detectors_and_two_segmenters() -> None:
    ensemble = load_ensemble("coco_2019")
    detectors = [f"detector_{i}" for i in (1, 2, 3)]
    segmenters = [f"segmenter_{i}" for i in (1, 2)]
    assert list(ensemble.members) == [*detectors, *segmenters]
    assert plans(ensemble) == {**dict.fromkeys(detectors, BOXES), **dict.fromkeys(segmenters, MASKS)}
    for name in detectors:
        assert scales(ensemble, name) == mirrored(600, 800, 1000, 1200, 1400)
    for name in segmenters:
        assert scales(ensemble, name) == mirrored(600, 800, 1000, 1200)
    (rule,) = ensemble.fusion.rules
    assert (rule.name, rule.options["method"]) == ("soft_nms", "linear")
    assert ensemble.fusion.masks.name == "average"


def test_the_lvis_2020_winner_keeps_the_papers_range_at_each_scale() -> None:
    ensemble = load_ensemble("lvis_2020")
    assert list(ensemble.members) == ["lvis_htc_x101_bags"]
    assert scales(ensemble, "lvis_htc_x101_bags") == mirrored(400, 600, 800, 1000, 1200, 1400)
    assert ensemble.fusion == FusionSection(preset="lvis")
    assert len(ensemble.fusion.ranges) == 6
    assert [rule.options["iou_threshold"] for rule in ensemble.fusion.rules] == [0.7, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_the_checkpoint_of_a_shipped_recipe_below_the_current_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for member in load_ensemble(name).members.values():
        assert member.checkpoint.parents[1] == tmp_path / "runs"
        assert member.checkpoint.name == "checkpoint"
        recipe, _, number = member.checkpoint.parent.name.rpartition("_")
        load_recipe(recipe if number.isdigit() and len(number) == 1 else member.checkpoint.parent.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_takes_overrides_and_a_file_of_that_name_goes_before(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_ensemble(name, ["fusion.top_k=7"]).fusion.top_k == 7
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("members: {own: {checkpoint: own, scales: [8]}}")
    assert list(load_ensemble(name).members) == ["own"]


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"^ensemble: .* or one of coco_2019, lvis_2020, wad_2018; got 'coco_2018'"):
        load_ensemble("coco_2018")


@pytest.mark.parametrize("name", NAMES)
def test_a_fusion_section_that_is_sent_while_the_service_runs_reads_back_as_it_was(name: str) -> None:
    ensemble = load_ensemble(name)
    assert parse(Ensemble, dump(ensemble), source="dump") == ensemble


@pytest.mark.parametrize("name", NAMES)
def test_the_cluster_serves_what_one_machine_serves(name: str) -> None:
    shipped, (ensemble, content) = load_ensemble(name), deployed(name)
    assert ensemble.views == shipped.views
    assert ensemble.deployments == shipped.deployments
    assert ensemble.fusion == shipped.fusion
    folders = [(one.checkpoint.parts[-2:], two.checkpoint.parts[-2:]) for one, two in _pairs(ensemble, shipped)]
    assert all(one == two for one, two in folders)
    (section,) = [one for one in content["applications"][0]["deployments"] if one["name"] == "Fusion"]
    reread = parse(Ensemble, dump(ensemble) | {"fusion": section["user_config"]}, source="user_config")
    assert reread.fusion == ensemble.fusion


@pytest.mark.parametrize(("name", "least", "most"), [("coco_2019", 8, 16), ("lvis_2020", 3, 9), ("wad_2018", 9, 18)])
def test_serve_accepts_the_cluster_config_and_it_takes_the_gpus_that_it_says(name: str, least: int, most: int) -> None:
    ensemble, content = deployed(name)
    schema = ServeDeploySchema.model_validate(content)
    assert schema.applications[0].import_path == "tis_ray.serving.app:build"
    replicas = [ensemble.replica(one) for one in ensemble.deployments]
    assert all(one.num_gpus == 1 for one in replicas)
    scaled = [one.autoscaling for one in replicas if one.autoscaling is not None]
    assert (sum(one.min_replicas for one in scaled), sum(one.max_replicas for one in scaled)) == (least, most)
    assert content["http_options"]["request_timeout_s"] > ensemble.limits.max_deadline_s
    assert ensemble.auth not in (None, "none")


def test_the_wad_cluster_bears_the_loss_of_one_deployment_and_no_more() -> None:
    ensemble, _ = deployed("wad_2018")
    sizes = sorted(len(views) for views in ensemble.deployments.values())
    assert ensemble.quorum.met(len(ensemble.views) - sizes[-1], len(ensemble.views))
    assert not ensemble.quorum.met(len(ensemble.views) - sum(sizes[:2]), len(ensemble.views))
    assert ensemble.limits.max_pixels > 3384 * 2710


def _pairs(one: Ensemble, other: Ensemble) -> list[tuple[Any, Any]]:
    return [(member, other.members[name]) for name, member in one.members.items()]
