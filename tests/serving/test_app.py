"""Assembling the application, without starting Ray."""

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.tiny import CATEGORIES, TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.config import Ensemble, FusionSection, parse
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories
from tis_ray.serving import app
from tis_ray.serving.loading import load_predictor, memory_taken
from tis_ray.serving.resources import auto_gpus
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

LOCAL = Path(__file__).parents[2] / "deployments" / "local.yaml"


def in_a_fresh_process(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_gateway_and_fusion_come_without_pytorch():
    code = "import sys, tis_ray.serving.app; print([m for m in ('torch', 'torchvision', 'timm') if m in sys.modules])"
    assert in_a_fresh_process(code) == "[]"


def test_the_client_comes_without_pytorch_and_ray():
    code = "import sys, tis_ray.serving.client; print([m for m in ('torch', 'ray', 'numba') if m in sys.modules])"
    assert in_a_fresh_process(code) == "[]"


def test_the_serve_config_is_valid_and_names_every_deployment():
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load(LOCAL.read_text()))
    (application,) = config.applications
    ensemble = parse(Ensemble, application.args, source="args")
    assert application.import_path == "tis_ray.serving.app:build"
    assert [d.name for d in application.deployments] == ["Gateway", "Fusion", *ensemble.deployments]
    assert config.http_options.request_timeout_s > ensemble.limits.max_deadline_s
    section = application.deployments[1].user_config
    Fuser(parse(FusionSection, section, source="user_config"))


def test_builds_one_deployment_per_member_and_scale(tmp_path, monkeypatch):
    for name in ("one", "two"):
        save_tiny_checkpoint(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    ensemble = Ensemble.model_validate(
        {
            "members": {
                "one": {"checkpoint": "one", "scales": [64, 96]},
                "two": {"checkpoint": "two", "scales": [64]},
            },
            "replicas": {"one@96": {"num_replicas": 3, "num_cpus": 2}, "default": {"num_gpus": 0.25}},
            "auth": "none",
        }
    )
    built = _deployments(app.build(ensemble))
    assert sorted(built) == ["Fusion", "Gateway", "one@64", "one@96", "two@64"]
    assert built["one@96"].num_replicas == 3
    assert built["one@96"].ray_actor_options["num_cpus"] == 2
    assert built["two@64"].ray_actor_options["num_gpus"] == 0.25
    assert built["Fusion"].user_config["top_k"] == 100


def test_a_view_server_without_a_gpu_computes_on_the_cpu(tmp_path):
    save_tiny_checkpoint(tmp_path / "one")
    ensemble = Ensemble.model_validate(
        {
            "members": {"one": {"checkpoint": tmp_path / "one", "scales": [64, 96]}},
            "replicas": {"one@96": {"num_gpus": 0.5}, "one@64": {"num_gpus": 0}},
            "auth": "none",
        }
    )
    built = _deployments(app.build(ensemble))
    loads = {name: built[name].init_args[0].keywords for name in ("one@64", "one@96")}
    assert {name: load["device"] for name, load in loads.items()} == {"one@64": "cpu", "one@96": "cuda"}
    assert loads["one@96"]["gpu_share"] == 0.5


def test_a_view_server_tells_what_its_warm_up_took_of_the_gpu(tiny_checkpoint, caplog):
    load = partial(load_predictor, tiny_checkpoint, CATEGORIES, device="cpu", feature_bytes=0, feature_age_s=60)
    with caplog.at_level("INFO", logger="ray.serve"):
        ViewServer(load, [View("one", 64), View("one", 96)], taken=lambda: 3 * 2**29)
        ViewServer(load, [View("one", 64)], taken=partial(memory_taken, "cpu"))
    assert [record.getMessage() for record in caplog.records] == [
        "the warm-up of 2 views took up to 1.50 GiB of the GPU"
    ]


@pytest.mark.parametrize(
    ("replica", "mebibytes"),
    [
        pytest.param({"num_gpus": 0}, 512, id="without a GPU"),
        pytest.param({"num_gpus": 0.5}, 2048, id="on a GPU"),
        pytest.param({"num_gpus": 0.5, "feature_memory_mb": 100}, 100, id="as written"),
        pytest.param({"num_gpus": 0, "feature_memory_mb": 0}, 0, id="none at all"),
    ],
)
def test_a_view_server_keeps_features_by_its_own_bounds_and_calls_find_who_keeps_them(tmp_path, replica, mebibytes):
    save_tiny_checkpoint(tmp_path / "one")
    ensemble = Ensemble.model_validate(
        {
            "members": {"one": {"checkpoint": tmp_path / "one", "scales": [64]}},
            "replicas": {"default": replica},
            "limits": {"max_deadline_s": 77},
            "auth": "none",
        }
    )
    deployment = _deployments(app.build(ensemble))["one@64"]
    keywords = deployment.init_args[0].keywords
    assert (keywords["feature_bytes"], keywords["feature_age_s"]) == (mebibytes * 2**20, 77)
    assert deployment._deployment_config.request_router_config.get_request_router_class().__name__ == "KeeperFirst"


def test_a_member_that_cannot_do_what_its_role_asks_is_refused_before_anything_starts(tmp_path):
    for name in ("one", "two"):
        save_tiny_checkpoint(tmp_path / name, detector={**TINY_DETECTOR, "mask": None})
    members = {name: {"checkpoint": tmp_path / name, "scales": [64]} for name in ("one", "two")}
    content = {"members": members, "fusion": {"members": {"two": {"role": "masks"}}}, "auth": "none"}
    with pytest.raises(ConfigError, match=r"fusion\.members\.two\.role"):
        app.build(Ensemble.model_validate(content))


@pytest.mark.parametrize(
    ("gpus", "replicas", "share"),
    [
        pytest.param(0, {}, 0, id="no GPU"),
        pytest.param(1, {}, 1 / 3, id="three share one"),
        pytest.param(4, {}, 1, id="more GPUs than servers"),
        pytest.param(2, {"a@64": {"num_gpus": 1}}, 1 / 2, id="one has its own"),
        pytest.param(2, {"fusion": {"num_gpus": 1}}, 1 / 3, id="the fusion takes one"),
        pytest.param(1, {"a@64": {"num_gpus": 1}}, 0, id="none left"),
        pytest.param(2, {"a@64": {"num_gpus": 0}, "b@64": {"num_replicas": 3}}, 1 / 2, id="replicas count"),
        pytest.param(1, {"default": {"num_gpus": 0}}, 0, id="nobody shares"),
    ],
)
def test_auto_divides_the_gpus_that_nobody_asks_for(gpus, replicas, share):
    members = {"a": {"checkpoint": "a", "scales": [64, 96]}, "b": {"checkpoint": "b", "scales": [64]}}
    ensemble = Ensemble.model_validate({"members": members, "replicas": replicas})
    assert auto_gpus(ensemble, gpus) == pytest.approx(share)


def _deployments(application) -> dict:
    """Every deployment of an application, by walking the arguments it is bound to."""
    found, open_ = {}, [application]
    while open_:
        node = open_.pop()
        if isinstance(node, dict):
            open_ += node.values()
        elif hasattr(node, "_bound_deployment"):
            bound = node._bound_deployment
            found[bound.name] = bound
            open_ += [*bound.init_args, *bound.init_kwargs.values()]
    return found


def test_a_missing_checkpoint_is_one_clear_error(tmp_path):
    members = {"one": {"checkpoint": tmp_path / "nowhere", "scales": [64]}}
    ensemble = Ensemble.model_validate({"members": members, "auth": "none"})
    with pytest.raises(CheckpointError, match="nowhere: expected a folder"):
        app.build(ensemble)


def test_members_of_different_classes_are_refused(tmp_path):
    save_tiny_checkpoint(tmp_path / "one")
    save_tiny_checkpoint(tmp_path / "two", categories=Categories(CATEGORIES.ids, ("car", "person", "tram")))
    members = {name: {"checkpoint": tmp_path / name, "scales": [64]} for name in ("one", "two")}
    with pytest.raises(ConfigError, match=r"members\.two: .*bus.*tram"):
        app.build(Ensemble.model_validate({"members": members, "auth": "none"}))


def test_a_wrong_fusion_section_keeps_a_replica_from_starting_and_leaves_a_running_one_as_it_is():
    ensemble = Ensemble.model_validate({"members": {"a": {"checkpoint": "a", "scales": [64]}}})
    replica = app.FusionReplica(ensemble, CATEGORIES, {}, frozenset(), {})
    with pytest.raises(ConfigError, match="did you mean 'nms'"):
        replica.reconfigure({"rules": ["nmss"], "top_k": 3})
    replica.reconfigure({"top_k": 4})
    replica.reconfigure({"rules": ["nmss"], "top_k": 5})
    section, refused = asyncio.run(replica.section())
    assert section.top_k == 4
    assert refused is not None
    assert "did you mean 'nms'" in refused
    replica.reconfigure({"top_k": 6})
    section, refused = asyncio.run(replica.section())
    assert (section.top_k, refused) == (6, None)
