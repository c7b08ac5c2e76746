"""The arithmetic of `--replicas`: what changes in a Serve config, and what comes back."""

import random
from copy import deepcopy
from pathlib import Path

import pytest
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeApplicationSchema

from tis_ray.config import Ensemble, parse
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.serving.resources import Resources
from tis_ray.submission.replica_counts import Change, raised, read_replicas, with_replicas

SCALING = {
    "min_replicas": 1,
    "max_replicas": 6,
    "policy": {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"},
}
APPLICATION = {
    "name": "tis-ray",
    "import_path": "tis_ray.serving.app:build",
    "args": {"members": {"r50": {"scales": [800, 1200]}}},
    "deployments": [
        {"name": "Fusion", "user_config": {"top_k": 100}},
        {"name": "r50@800", "num_replicas": 2, "max_ongoing_requests": 9},
    ],
}


@pytest.fixture
def ensemble() -> Ensemble:
    content = {
        "members": {"r50": {"checkpoint": str(Path("r50").absolute()), "scales": [800, 1200]}},
        "replicas": {"r50@800": {"num_replicas": 3}, "default": {"autoscaling": {"max_replicas": 4}, "num_cpus": 0.5}},
    }
    return parse(Ensemble, content, source="test")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(["4"], {"r50@800": 4, "r50@1200": 4}, id="all view servers"),
        pytest.param(["r50@800=4"], {"r50@800": 4}, id="one"),
        pytest.param(["2", "r50@1200=8", "Fusion=3"], {"r50@800": 2, "r50@1200": 8, "Fusion": 3}, id="the last counts"),
    ],
)
def test_reads_numbers_by_deployment(ensemble: Ensemble, asked: list[str], expected: dict[str, int]) -> None:
    assert read_replicas(asked, ensemble) == expected


@pytest.mark.parametrize("asked", ["0", "-1", "many", "r50@800=", "=4", "r50@800=1.5", ""])
def test_refuses_what_is_no_number(ensemble: Ensemble, asked: str) -> None:
    with pytest.raises(ConfigError, match="--replicas: expected N or NAME=N, as 4 or r50@800=4; got"):
        read_replicas([asked], ensemble)


def test_refuses_a_deployment_that_is_not_there_with_the_choices(ensemble: Ensemble) -> None:
    with pytest.raises(
        ConfigError, match=r"expected one of r50@1200, r50@800, Fusion; got r50@80 \(did you mean r50@8"
    ):
        read_replicas(["r50@80=2"], ensemble)


def test_an_ensemble_gets_more_replicas_and_keeps_what_they_need(ensemble: Ensemble) -> None:
    more = with_replicas(ensemble, {"r50@800": 2, "r50@1200": 5, "Fusion": 2})
    resources = Resources.of(more, {})
    options = {name: resources.options(more, more.replica(name), on_gpu=True) for name in more.deployments}
    assert {name: one["num_replicas"] for name, one in options.items()} == {"r50@800": 3, "r50@1200": 5}
    assert options["r50@1200"]["ray_actor_options"]["num_cpus"] == 0.5
    assert more.replicas["fusion"].num_replicas == 2
    assert ensemble.replicas["r50@800"].num_replicas == 3
    assert "r50@1200" not in ensemble.replicas


def test_numbers_are_raised_and_nothing_else_is_touched() -> None:
    before = deepcopy(APPLICATION)
    after = raised(before, {"r50@800": 4, "r50@1200": 4})
    assert before == APPLICATION
    assert after["deployments"] == [
        {"name": "Fusion", "user_config": {"top_k": 100}},
        {"name": "r50@800", "num_replicas": 4, "max_ongoing_requests": 9, "autoscaling_config": None},
        {"name": "r50@1200", "num_replicas": 4, "autoscaling_config": None},
    ]
    assert {key: after[key] for key in ("name", "import_path", "args")} == {
        key: before[key] for key in ("name", "import_path", "args")
    }


@pytest.mark.parametrize("scaling", [None, SCALING], ids=["by number", "by itself"])
def test_serve_sees_the_same_code_so_that_no_replica_restarts(scaling: dict[str, object] | None) -> None:
    application = deepcopy(APPLICATION)
    if scaling is not None:
        application["deployments"][1] = {"name": "r50@800", "num_replicas": "auto", "autoscaling_config": scaling}
    after = raised(application, {"r50@800": 4, "r50@1200": 4})
    versions = [get_app_code_version(ServeApplicationSchema.model_validate(one)) for one in (application, after)]
    assert versions[0] == versions[1]


def test_a_deployment_that_scales_itself_by_the_config_is_held_at_the_number() -> None:
    application = deepcopy(APPLICATION)
    application["deployments"][1] = {"name": "r50@800", "num_replicas": "auto", "autoscaling_config": dict(SCALING)}
    after = raised(application, {"r50@800": 4})
    assert after["deployments"][1]["num_replicas"] == "auto"
    bounds = {"min_replicas": 4, "max_replicas": 4, "initial_replicas": 4}
    assert after["deployments"][1]["autoscaling_config"] == SCALING | bounds
    assert Change.between(application, after).undone(after) == application


def test_refuses_a_service_that_something_else_scales() -> None:
    with pytest.raises(ServiceError, match="external_scaler_enabled"):
        raised(APPLICATION | {"external_scaler_enabled": True}, {"r50@800": 2})


def test_what_was_raised_comes_back_exactly() -> None:
    rng = random.Random(0)
    names = ["a", "b", "c", "d"]
    for _ in range(200):
        entries = []
        for name in rng.sample(names, rng.randint(0, 4)):
            entry = {"name": name, **rng.choice([{}, {"num_replicas": 2}, {"autoscaling_config": dict(SCALING)}])}
            entries.append(entry | rng.choice([{}, {"user_config": {"x": 1}}]))
        application = {"name": "tis-ray", "deployments": entries}
        wanted = {name: rng.randint(1, 5) for name in rng.sample(names, rng.randint(1, 4))}
        after = raised(application, wanted)
        undone = Change.between(application, after).undone(after)
        mentioned = [entry for entry in entries if entry.keys() > {"name"}]  # an entry that says nothing may go
        assert [entry for entry in undone["deployments"] if entry.keys() > {"name"}] == mentioned


def test_what_somebody_else_has_changed_meanwhile_stays() -> None:
    after = raised(APPLICATION, {"r50@800": 4, "r50@1200": 4})
    change = Change.between(APPLICATION, after)
    later = deepcopy(after)
    later["deployments"][0]["user_config"] = {"top_k": 7}
    later["deployments"][1]["num_replicas"] = 9
    later["args"] = {"members": {}}
    undone = change.undone(later)
    assert undone["deployments"] == [
        {"name": "Fusion", "user_config": {"top_k": 7}},
        {"name": "r50@800", "num_replicas": 9, "max_ongoing_requests": 9, "autoscaling_config": None},
    ]
    assert undone["args"] == {"members": {}}
    assert change.undone(APPLICATION) == APPLICATION
