"""What the running service shows of itself to the network: headers through Serve's proxy, and Ray's own ports."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.listening import listeners
from tests.serving.malformed import IMAGE, encoded
from tis_ray.serving.headers import SAFE_HEADERS

ASKED = {
    "an answer": (200, "POST", "/v1/segment", {"content": encoded("JPEG"), "headers": IMAGE}),
    "the viewer": (200, "GET", "/", {}),
    "a refusal": (415, "POST", "/v1/segment", {"content": b"x"}),
    "no such path": (404, "GET", "/v2", {}),
    "a wrong method": (405, "OPTIONS", "/v1/segment", {"headers": {"Origin": "http://elsewhere"}}),
    "long headers": (431, "GET", "/v1/ensemble", {"headers": {"X-Long": "x" * 20_000}}),
    "a HEAD": (200, "HEAD", "/readyz", {}),
}


@pytest.mark.ray
@pytest.mark.parametrize(("status", "method", "path", "request_"), ASKED.values(), ids=ASKED)
def test_safe_headers_go_through_serves_proxy_once_and_no_version_does(http, status, method, path, request_):
    response = http.request(method, path, **request_)
    assert response.status_code == status
    for name in SAFE_HEADERS:
        assert len(response.headers.get_list(name)) == 1, name
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert response.headers.get_list("Server") == ["uvicorn"]
    assert "X-Powered-By" not in response.headers


@pytest.mark.ray
@pytest.mark.parametrize(
    "path", ["/api/version", "/api/jobs/", "/api/serve/applications/", "/nodes?view=summary", "/logs"]
)
def test_rays_dashboard_refuses_who_has_no_token(service, path):
    for headers in ({}, {"Authorization": "Bearer " + 64 * "0"}):
        answer = httpx.get(service.dashboard + path, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code in (401, 403), (path, answer.text[:200])


@pytest.mark.ray
def test_nobody_runs_a_job_without_rays_token(service):
    job = {"entrypoint": "id"}
    answer = httpx.post(f"{service.dashboard}/api/jobs/", json=job, trust_env=False, timeout=30)
    assert answer.status_code == 401
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    let_in = httpx.get(
        f"{service.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
    )
    assert let_in.status_code == 200  # it is the token that is missing, not the path
    assert job["entrypoint"] not in [one["entrypoint"] for one in let_in.json()]


@pytest.mark.ray
def test_the_dashboard_and_the_service_listen_where_they_were_told_to(service):
    by_port = {one.port: one for one in listeners(os.getpid())}
    for url in (service.dashboard, service.url):
        assert by_port[urlsplit(url).port].host == "127.0.0.1"


@pytest.mark.ray
def test_what_other_machines_reach_of_ray_answers_nobody_but_with_metrics(service):
    """Ray's own protocol is guarded by its token; the metrics of its agent are not."""
    open_ = {}
    for one in listeners(os.getpid()):
        if not one.on_loopback:
            try:
                answer = httpx.get(
                    f"http://{one.host.replace('::', '127.0.0.1')}:{one.port}/", trust_env=False, timeout=5
                )
            except httpx.HTTPError:
                continue  # no HTTP: Ray's gRPC
            if answer.status_code not in (401, 403):
                open_[one.name, one.port] = answer.text
    for where, text in open_.items():
        assert text.startswith("# HELP"), (where, text[:200])


STARTED = """
import os
from tests.serving.listening import listeners
from tis_ray import local_ray
import ray

print(local_ray.start(num_cpus=1, dashboard=True))
ray.get(ray.remote(lambda: None).remote())
for one in listeners(os.getpid()):
    print("listens", one.on_loopback, one)
ray.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_ray_can_be_kept_to_this_machine_altogether():
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-c", STARTED], capture_output=True, text=True, env=environment, timeout=300, check=True
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("listens")]
    assert len(lines) > 5, run.stdout
    assert all(line.startswith("listens True") for line in lines), run.stdout
