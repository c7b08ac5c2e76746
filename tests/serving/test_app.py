"""Assembling the application, without starting Ray."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.tiny import CATEGORIES, save_tiny_checkpoint
from tis_ray.config import Ensemble, FusionSection, parse
from tis_ray.errors import CheckpointError, ConfigError, InputError, ServiceError
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories
from tis_ray.serving import app, local
from tis_ray.serving.client import Client

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
    assert [d.name for d in application.deployments] == ["Gateway", "Fusion", *app.deployments(ensemble)]
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
    devices = {name: built[name].init_args[0].keywords["device"] for name in ("one@64", "one@96")}
    assert devices == {"one@64": "cpu", "one@96": "cuda"}


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
    assert app.auto_gpus(ensemble, gpus) == pytest.approx(share)


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


def test_a_taken_port_is_named_before_ray_starts(tiny_checkpoint):
    import socket

    import ray

    ensemble = Ensemble.model_validate({"members": {"one": {"checkpoint": tiny_checkpoint, "scales": [64]}}})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = ray.is_initialized()
        with pytest.raises(ConfigError, match=rf"port: expected a free port on 127\.0\.0\.1; got {port}"):
            local.serve_locally(ensemble, port=port)
        assert ray.is_initialized() == started


def test_another_interface_than_loopback_needs_tokens(monkeypatch):
    monkeypatch.delenv("TIS_RAY_TOKENS", raising=False)
    ensemble = Ensemble.model_validate({"members": {"one": {"checkpoint": "nowhere", "scales": [64]}}})
    with pytest.raises(ConfigError, match="TIS_RAY_TOKENS"):
        local.serve_locally(ensemble, host="0.0.0.0", port=0)


def test_tokens_hold_on_loopback_too(monkeypatch, tiny_checkpoint):
    """Which of both applies is the first thing that is said; the taken port ends it there."""
    monkeypatch.setattr(local, "check_port_free", _taken)
    ensemble = Ensemble.model_validate({"members": {"one": {"checkpoint": tiny_checkpoint, "scales": [64]}}})
    for tokens, expected in (("secret", "requests need a token of TIS_RAY_TOKENS"), ("", "requests need no token")):
        monkeypatch.setenv("TIS_RAY_TOKENS", tokens)
        said = []
        with pytest.raises(ConfigError, match="taken"):
            local.serve_locally(ensemble, on_progress=said.append)
        assert said == [expected]


def _taken(host, port):
    raise ConfigError("taken")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_every_address_has_a_url_that_reaches_it(host, url):
    assert local.service_url(host, 80) == url
    Client(local.service_url(host, 80)).close()


@pytest.mark.ray
def test_closing_stops_ray_even_where_serve_never_started():
    code = """
import ray
from tis_ray.serving.local import LocalService
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
LocalService("http://127.0.0.1:1", owns_ray=True).close()
print(ray.is_initialized())
"""
    assert in_a_fresh_process(code) == "False"


def test_a_url_that_is_none_is_named():
    with pytest.raises(
        InputError, match="url: expected the address of a service as http://host:port; got 'http://:::'"
    ):
        Client("http://:::")


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with http_server() as url, Client(url) as client:
        assert client.ready()


@contextmanager
def http_server():
    """A server that answers every GET with 200, in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_misspelt_rule_is_refused_before_ray_starts(tiny_checkpoint):
    members = {"one": {"checkpoint": tiny_checkpoint, "scales": [64]}}
    ensemble = Ensemble.model_validate({"members": members, "fusion": {"rules": ["nsm"]}})
    with pytest.raises(ConfigError, match=r"fusion\.rules\.0: .*did you mean 'nms'"):
        local.serve_locally(ensemble)


RETRYING = """The deployment failed to start 1 times in a row. Retrying 2 more times. Error:
Traceback (most recent call last):
  File "checkpoint.py", line 70, in _load_weights
tis_ray.errors.CheckpointError: checkpoint one: model.safetensors does not fit
"""


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        pytest.param("DEPLOYING", "", None, id="still starting"),
        pytest.param("DEPLOYING", "1 replicas that have taken more than 30s to initialize", None, id="slow"),
        pytest.param("DEPLOYING", RETRYING, "checkpoint one: model.safetensors does not fit", id="user's mistake"),
        pytest.param(
            "DEPLOY_FAILED", "Traceback\n  x\nRuntimeError: no memory", "RuntimeError: no memory", id="defect"
        ),
        pytest.param("UNHEALTHY", "", "no reason given", id="no message"),
    ],
)
def test_says_why_a_service_will_not_start(status, message, expected):
    from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview

    deployment = DeploymentStatusOverview(
        status="UPDATING", status_trigger="CONFIG_UPDATE_STARTED", replica_states={}, message=message
    )
    overview = ApplicationStatusOverview(
        status=status, message="", last_deployed_time_s=0, deployments={"one@64": deployment}
    )
    assert local.failure(overview) == expected


def test_the_client_names_a_service_that_is_not_there():
    with Client("http://127.0.0.1:1") as client:
        assert not client.ready()
        with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:1: expected a tis-ray service") as error:
            client.segment(b"picture")
        assert error.value.status is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waits_for_a_signal_and_leaves_the_handlers_as_they_were(number):
    before = signal.getsignal(number)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
    timer.start()
    local.wait_for_interrupt()
    timer.join()
    assert signal.getsignal(number) == before
