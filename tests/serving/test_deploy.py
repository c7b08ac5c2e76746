"""The application as a Serve config: deployed with Ray's own command line, and changed while it runs.

Deploying puts the same ensemble in the place of the one that is running, so the other tests may come before or after.
"""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.serving.bad_days import Requester, asking, process_ids, summary, wait_until
from tests.serving.replicas import replica_processes
from tis_ray.config import dump

pytestmark = pytest.mark.ray


def serve_command(*arguments: str) -> str:
    """Run Ray Serve's command line against the test session's Ray."""
    command = [str(Path(sys.executable).with_name("serve")), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"RAY_AUTH_MODE": "token"})
    assert run.returncode == 0, run.stderr
    return run.stdout


def deploy(
    service, folder: Path, *, gateways: int = 1, limits: dict[str, object] | None = None, **fusion: object
) -> None:
    """`serve deploy` the ensemble, the changed fusion section as `user_config`, and wait until all is running.

    Other `limits` are other arguments, which replace every replica.
    """
    args = dump(service.ensemble.model_copy(update={"auth": "none"}))
    args["limits"] |= limits or {}
    section = args.pop("fusion") | fusion
    sections = [
        {"name": "Gateway", "num_replicas": gateways},
        {"name": "Fusion", "num_replicas": 1, "user_config": section},
        *({"name": name, "num_replicas": 1} for name in service.ensemble.deployments),
    ]
    application = {
        "name": "tis-ray",
        "route_prefix": "/",
        "import_path": "tis_ray.serving.app:build",
        "args": args,
        "deployments": sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"applications": [application]}))
    serve_command("deploy", str(path), "--address", service.dashboard)
    wait_until_running({section["name"]: section["num_replicas"] for section in sections})


def wait_until_running(replicas: dict[str, int]) -> None:
    from ray import serve

    end = time.monotonic() + 300
    while True:
        application = serve.status().applications["tis-ray"]
        states = {name: dict(one.replica_states) for name, one in application.deployments.items()}
        if application.status == "RUNNING" and states == {name: {"RUNNING": n} for name, n in replicas.items()}:
            return
        assert application.status != "DEPLOY_FAILED", application
        assert time.monotonic() < end, application
        time.sleep(0.5)


def count(service) -> int:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    headers = {"Content-Type": "image/png"}
    response = httpx.post(f"{service.url}/v1/segment", content=stream.getvalue(), headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    return len(response.json()["instances"])


def test_fusion_and_replica_counts_change_without_restarting_a_view_server(service, tmp_path):
    top_k = service.ensemble.fusion.top_k
    deploy(service, tmp_path, top_k=top_k)
    assert count(service) == top_k
    before = replica_processes()
    assert set(before) == {"Gateway", "Fusion", *service.ensemble.deployments}
    listed = yaml.safe_load(serve_command("status", "--address", service.dashboard))["applications"]["tis-ray"]
    assert set(listed["deployments"]) == set(before)

    deploy(service, tmp_path, top_k=3, gateways=2)
    assert count(service) == 3
    after = replica_processes()
    assert len(after["Gateway"]) == 2
    for name in ("Fusion", *service.ensemble.deployments):
        assert after[name] == before[name], name

    deploy(service, tmp_path, top_k=top_k)
    assert count(service) == top_k


@pytest.mark.slow
def test_a_wrong_fusion_section_is_named_and_the_old_one_stays_in_force(service, tmp_path):
    top_k = service.ensemble.fusion.top_k
    deploy(service, tmp_path, top_k=3)
    before = replica_processes()
    deploy(service, tmp_path, top_k=4, rules=["nmss"])
    described = wait_for_refusal(service)
    assert "did you mean 'nms'" in described["fusion_refused"]
    assert described["fusion"]["top_k"] == 3
    assert count(service) == 3
    wait_until(lambda: replica_processes() == before, within_s=10)

    deploy(service, tmp_path, top_k=top_k)
    assert count(service) == top_k
    assert httpx.get(f"{service.url}/v1/ensemble", timeout=60).json()["fusion_refused"] is None


def wait_for_refusal(service) -> dict:
    end = time.monotonic() + 60
    while (described := httpx.get(f"{service.url}/v1/ensemble", timeout=60).json())["fusion_refused"] is None:
        assert time.monotonic() < end, described
        time.sleep(0.5)
    return described


@pytest.mark.slow
def test_while_every_replica_is_replaced_no_request_fails(service, tmp_path, capsys):
    """Each deployment has one replica; the cluster has room for one more, so that its replacement is ready first."""
    names = ("Gateway", "Fusion", *service.ensemble.deployments)
    requester = Requester(service.url, size_px=64)
    deploy(service, tmp_path)
    before = {name: process_ids(name) for name in names}
    with asking(
        lambda number: requester.ask(number, 30), concurrency=2, at_least=20, until=threading.Event()
    ) as answers:
        deploy(service, tmp_path, limits={"deadline_s": 29})
        wait_until(lambda: all(len(process_ids(name)) == 1 for name in names))
    after = {name: process_ids(name) for name in names}
    with capsys.disabled():
        print("\nevery replica replaced:", summary(answers, []))
    assert all(before[name].isdisjoint(after[name]) for name in names)
    assert {answer.status for answer in answers} == {200}
    assert not any(answer.degraded for answer in answers)

    deploy(service, tmp_path)
