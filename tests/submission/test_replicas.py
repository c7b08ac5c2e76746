"""More replicas of a service that runs, for the time of a batch run, through Serve's REST interface."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import ray
from ray import serve
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

from tests.running_service import Service
from tests.serving.replicas import replica_processes
from tis_ray.config import dump
from tis_ray.errors import ServiceError
from tis_ray.submission.replica_counts import NOTE
from tis_ray.submission.replicas import more_replicas, put_back

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WANTED = {"two@64": 2, "one@64": 2}
CODE = """
import sys, time
from pathlib import Path
import ray
from tis_ray.submission.replicas import more_replicas
from tis_ray.submission.stopping import terminable

ray.init(address=sys.argv[1], log_to_driver=False)
with terminable(), more_replicas({"two@64": 2, "one@64": 2}, folder=Path(sys.argv[2]), say=print):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def deployed(service: Service) -> Iterator[ServeSubmissionClient]:
    """The session's service, deployed from a config in place of the one that is there."""
    client = ServeSubmissionClient(service.dashboard)
    args = dump(service.ensemble.model_copy(update={"auth": "none"}))
    deployments = [{"name": "two@64", "num_replicas": 1}, {"name": "Fusion", "user_config": args["fusion"]}]
    application = {
        "name": "tis-ray",
        "route_prefix": "/",
        "import_path": "tis_ray.serving.app:build",
        "args": args,
        "deployments": deployments,
    }
    if config(client).get("args") != args:
        client.deploy_applications({"applications": [application]})
    until(lambda: config(client).get("args") == args and numbers() == (1, 1))
    yield client
    assert numbers() == (1, 1)


def config(client: ServeSubmissionClient) -> dict[str, object]:
    return client.get_serve_details()["applications"]["tis-ray"].get("deployed_app_config") or {}


def numbers() -> tuple[int, int] | None:
    """How many replicas of the two deployments run; None while something else happens to them."""
    application = serve.status().applications["tis-ray"]
    found = [application.deployments.get(name) for name in WANTED]  # none while it is being built
    states = [dict(one.replica_states) if one else {} for one in found]
    if application.status != "RUNNING" or any(set(one) != {"RUNNING"} for one in states):
        return None
    return (states[0]["RUNNING"], states[1]["RUNNING"])


def until(reached, *, within_s: float = 300) -> None:
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, serve.status()
        time.sleep(0.3)


def pids() -> dict[str, set[str]]:
    return {name: {folder.name for folder in replica_processes().get(name, [])} for name in (*WANTED, "Fusion")}


def test_replicas_come_for_a_block_and_those_that_run_go_on(deployed: ServeSubmissionClient, tmp_path: Path) -> None:
    before, processes, told = config(deployed), pids(), []

    def broken_run() -> None:
        with more_replicas(WANTED, folder=tmp_path, say=told.append):
            assert orjson.loads((tmp_path / NOTE).read_bytes())["before"]["one@64"] is None
            until(lambda: numbers() == (2, 2))
            more = pids()
            assert all(processes[name] < more[name] for name in WANTED)
            assert more["Fusion"] == processes["Fusion"]
            raise RuntimeError("the run broke")

    with pytest.raises(RuntimeError, match="the run broke"):
        broken_run()
    until(lambda: numbers() == (1, 1))
    assert config(deployed) == before
    assert pids()["Fusion"] == processes["Fusion"]
    assert not (tmp_path / NOTE).exists()
    assert told[0] == "replicas for this run: two@64 1 -> 2, one@64 1 -> 2"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_a_run_that_is_ended_puts_them_back_and_one_that_is_killed_leaves_a_note(
    deployed: ServeSubmissionClient, tmp_path: Path, number: signal.Signals
) -> None:
    before = config(deployed)
    command = [sys.executable, "-c", CODE, ray.get_runtime_context().gcs_address, str(tmp_path)]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "up\n" in process.stdout
        until(lambda: numbers() == (2, 2))
        process.send_signal(number)
        process.communicate(timeout=200)
    assert (tmp_path / NOTE).exists() == (number == signal.SIGKILL)
    assert (config(deployed) == before) == (number != signal.SIGKILL)
    put_back(tmp_path, say=print)  # as whoever takes up the run does
    assert config(deployed) == before
    assert not (tmp_path / NOTE).exists()
    until(lambda: numbers() == (1, 1))


def test_a_service_of_another_ensemble_or_none_is_refused(deployed: ServeSubmissionClient, tmp_path: Path) -> None:
    nowhere = more_replicas(WANTED, folder=tmp_path, say=print, address="http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"Ray's dashboard at http://127\.0\.0\.1:9"), nowhere:
        pass
