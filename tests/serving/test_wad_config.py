"""`deployments/wad.yaml` as Serve and the service read it; its checkpoints exist on a cluster only."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tis_ray.config import Ensemble, FusionSection, parse
from tis_ray.fusion.fuse import Fuser

FILE = Path(__file__).parents[2] / "deployments" / "wad.yaml"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return read


@pytest.fixture(scope="module")
def application(content: dict[str, Any]) -> dict[str, Any]:
    (one,) = content["applications"]
    return dict(one)


@pytest.fixture(scope="module")
def ensemble(application: dict[str, Any]) -> Ensemble:
    return parse(Ensemble, application["args"], source=str(FILE))


def test_serve_accepts_it(content: dict[str, Any]) -> None:
    schema = ServeDeploySchema.model_validate(content)
    assert schema.applications[0].import_path == "tis_ray.serving.app:build"


def test_every_member_looks_at_ten_scales_and_the_strip_both_ways_round(ensemble: Ensemble) -> None:
    assert len(ensemble.members) > 1
    for name in ensemble.members:
        views = [view for view in ensemble.views if view.member == name]
        whole = sorted({view.scale for view in views if not view.crop})
        assert whole == list(range(1810, 4511, 300))
        assert {view.crop for view in views if view.crop} == {(0, 1560, 3384, 2280)}
        assert len(views) == 2 * (10 + 1)
        low = ensemble.deployments[f"{name}@low"]
        assert {view.scale for view in low if not view.crop} == {1810, 2110, 2410, 2710}


def test_the_fusion_is_that_of_the_paper(ensemble: Ensemble, application: dict[str, Any]) -> None:
    assert ensemble.fusion == FusionSection(preset="tis").fitted(set())
    Fuser(ensemble.fusion)
    (section,) = [one for one in application["deployments"] if one["name"] == "Fusion"]
    assert parse(FusionSection, section["user_config"], source="user_config") == ensemble.fusion


def test_named_deployments_exist_and_scale(ensemble: Ensemble, application: dict[str, Any]) -> None:
    assert {one["name"] for one in application["deployments"]} <= {"Gateway", "Fusion", *ensemble.deployments}
    replicas = [ensemble.replica(name) for name in ensemble.deployments]
    assert all(one.num_gpus == 1 and one.autoscaling is not None for one in replicas)
    scaled = [one.autoscaling for one in replicas if one.autoscaling is not None]
    assert (sum(one.min_replicas for one in scaled), sum(one.max_replicas for one in scaled)) == (6, 18)


def test_the_quorum_bears_the_loss_of_one_deployment_and_no_more(ensemble: Ensemble) -> None:
    sizes = sorted(len(views) for views in ensemble.deployments.values())
    assert ensemble.quorum.met(len(ensemble.views) - sizes[-1], len(ensemble.views))
    assert not ensemble.quorum.met(len(ensemble.views) - sum(sizes[:2]), len(ensemble.views))


def test_serves_own_time_limit_lies_above_the_longest_deadline(content: dict[str, Any], ensemble: Ensemble) -> None:
    assert content["http_options"]["request_timeout_s"] > ensemble.limits.max_deadline_s
    assert ensemble.limits.max_pixels > 3384 * 2710


def test_a_bearer_token_is_asked_for(ensemble: Ensemble) -> None:
    assert ensemble.auth is not None
    assert ensemble.auth != "none"
