"""Starting the service on this machine and asking it: addresses, tokens, failures, signals."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from tests.http_server import served
from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError, InputError, ServiceError
from tis_ray.serving import local
from tis_ray.serving.client import Client


def in_a_fresh_process(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


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
@pytest.mark.slow
def test_closing_stops_ray_even_where_serve_never_started():
    code = """
import ray
from tis_ray.serving.local import LocalService
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
LocalService("http://127.0.0.1:1", owns_ray=True).close()
print(ray.is_initialized())
"""
    assert in_a_fresh_process(code) == "False"


def test_closing_after_ray_has_gone_starts_no_other(monkeypatch):
    started = []
    monkeypatch.setattr(local.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(local.serve, "status", lambda: started.append("Ray"))
    monkeypatch.setattr(local.ray, "shutdown", lambda: started.append("nothing"))
    local.LocalService("http://127.0.0.1:1", owns_ray=False).close()
    assert not started


def test_a_url_that_is_none_is_named():
    with pytest.raises(
        InputError, match="url: expected the address of a service as http://host:port; got 'http://:::'"
    ):
        Client("http://:::")


@pytest.mark.parametrize("token", ["schlüssel", "secret\n"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(token):
    with pytest.raises(InputError, match="token: expected printable ASCII characters; got others"):
        Client("http://127.0.0.1:9", token=token)


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with served(Willing) as url, Client(url) as client:
        assert client.ready()


class Willing(BaseHTTPRequestHandler):
    """Answers every GET with 200."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_misspelt_rule_is_refused_before_ray_starts(tiny_checkpoint):
    members = {"one": {"checkpoint": tiny_checkpoint, "scales": [64]}}
    ensemble = Ensemble.model_validate({"members": members, "fusion": {"rules": ["nmss"]}})
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
