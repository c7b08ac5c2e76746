"""The service on this machine: a local Ray, Serve and the application, up until its handle is closed."""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from tis_ray import local_ray
from tis_ray.config import Ensemble, Replica
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.serving.app import build, check
from tis_ray.serving.auth import VARIABLE
from tis_ray.serving.running import APPLICATION

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SETTLE_S = 0.5
_SPARE_DEADLINE_S = 30.0  # Serve's own time limit lies above the longest deadline, so that ours speaks first


class LocalService:
    """A running service; closing it answers what is in flight, then stops Serve, and Ray too where this started it.

    drain_s: how long requests in flight are waited for at most
    """

    def __init__(self, url: str, *, owns_ray: bool, drain_s: float = 0.0) -> None:
        self.url = url
        self._owns_ray = owns_ray
        self._drain_s = drain_s
        self._open = True

    def close(self, *, drain: bool = True) -> None:
        """Stop it, with `drain` only once requests in flight are answered; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if not ray.is_initialized():
            return  # Ray was stopped before; asking Serve would connect to another one or start one
        try:
            # Stopping must not hide why it came to that, such as a Serve that never started or a Ray that is gone.
            with suppress(RayServeException, RayError, TimeoutError):
                if drain:
                    drain_gateways(self._drain_s)
                if not self._owns_ray:
                    serve.shutdown()
        finally:
            if self._owns_ray:
                ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve_locally(
    ensemble: Ensemble,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    dashboard: bool = False,
    ready_within_s: float = 600.0,
    on_progress: Callable[[str], None] | None = None,
) -> LocalService:
    """Start the service of `ensemble` and return once it answers; use the handle as a context manager.

    Ray is started unless it runs in this process already; `dashboard` starts Ray's too, which `serve status` needs.
    On the loopback interface everybody is let in unless TIS_RAY_TOKENS or the ensemble names tokens; `auth: none` in
    the ensemble always holds. `on_progress` gets a line for that and for each deployment that is up.
    Raises `ConfigError` or `CheckpointError` before anything starts for a taken port, a missing token, a misspelt rule
    or members that do not fit together, and `ServiceError` where the service does not become ready.
    """
    if host in LOOPBACK and ensemble.auth is None and not os.environ.get(VARIABLE):
        ensemble = ensemble.model_copy(update={"auth": "none"})
    say = on_progress or _say_nothing
    check(ensemble)
    say(_who_is_let_in(ensemble))
    check_port_free(host, port)
    owns_ray = not ray.is_initialized()
    if owns_ray:
        say("starting Ray")
        address = start_ray(ensemble, dashboard=dashboard)
        if address:
            say(f"Ray's dashboard is at {address}; RAY_AUTH_MODE=token serve status --address {address}")
    drain_s = ensemble.limits.max_deadline_s + _SPARE_DEADLINE_S
    service = LocalService(service_url(host, port), owns_ray=owns_ray, drain_s=drain_s)
    try:
        _deploy(ensemble, host, port)
        _wait(service.url, list(ensemble.deployments), time.monotonic() + ready_within_s, say)
    except BaseException:
        service.close(drain=False)
        raise
    return service


def service_url(host: str, port: int) -> str:
    """Where a service that listens on `host` is reached from this machine: all interfaces means loopback too."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say_nothing(line: str) -> None:
    del line


def _who_is_let_in(ensemble: Ensemble) -> str:
    if ensemble.auth == "none":
        return "requests need no token"
    return f"requests need a token of {ensemble.auth.tokens_file if ensemble.auth else VARIABLE}"


def drain_gateways(within_s: float) -> None:
    """Have every gateway refuse new requests, and return once those in flight were answered, or after `within_s`."""
    if APPLICATION not in serve.status().applications:
        return
    gateways = serve.get_deployment_handle("Gateway", app_name=APPLICATION)
    gateways.broadcast("drain", within_s).results(timeout_s=within_s + _SETTLE_S)
    time.sleep(_SETTLE_S)  # the last answers are on their way through Serve's proxy


def check_port_free(host: str, port: int) -> None:
    """Raise `ConfigError` where another program listens on the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"port: expected a free port on {host}; got {port} ({error.strerror})") from None


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def wait_for_interrupt() -> None:
    """Return on Ctrl-C or a termination signal."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.wait(0.5):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_ray(ensemble: Ensemble, *, dashboard: bool = False, extra_cpus: float = 0) -> str | None:
    """Start a local Ray with room for every replica: CPUs are promised beyond those there are, if it must be.

    `extra_cpus` are for other work on the same Ray. Returns the address of Ray's dashboard, if it was asked for.
    """
    replicas = [ensemble.replicas.get(name, Replica()) for name in ("gateway", "fusion")]
    replicas += [ensemble.replica(name) for name in ensemble.deployments]
    # Serve kills a proxy that is not there after 5 s, again and again, and gives up: too soon for a busy machine.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    needed = math.ceil(sum(replica.most * replica.num_cpus for replica in replicas) + extra_cpus)
    return local_ray.start(num_cpus=max(needed, os.cpu_count() or 1), dashboard=dashboard)


def _deploy(ensemble: Ensemble, host: str, port: int) -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # progress is told by `on_progress`
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(
            host=host, port=port, request_timeout_s=ensemble.limits.max_deadline_s + _SPARE_DEADLINE_S
        ),
    )
    serve.run_many(
        [serve.RunTarget(build(ensemble), name=APPLICATION, route_prefix="/")],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _wait(url: str, view_servers: list[str], end: float, say: Callable[[str], None]) -> None:
    """Until `/readyz` says so, with a line for each deployment on the way."""
    waiting = {"Gateway", "Fusion", *view_servers}
    detail = "nothing yet"
    while time.monotonic() < end:
        status = serve.status().applications.get(APPLICATION)
        reason = failure(status) if status is not None else None
        if reason is not None:
            raise ServiceError(f"the service did not start: {reason}")
        for name, deployment in sorted((status.deployments if status else {}).items()):
            if name in waiting and deployment.status == "HEALTHY":
                waiting.remove(name)
                say(f"{name} is up ({sum(deployment.replica_states.values())} replicas)")
        ready, detail = (False, f"waiting for {', '.join(sorted(waiting))}") if waiting else _ready(url)
        if ready:
            say(f"ready at {url}")
            return
        time.sleep(0.2)
    raise ServiceError(f"the service is not ready in time: {detail}")


def _ready(url: str) -> tuple[bool, str]:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
        return answer.status_code == 200, str(answer.json().get("detail"))
    except (httpx.HTTPError, ValueError) as error:
        return False, str(error)


def failure(status: ApplicationStatusOverview) -> str | None:
    """Why an application will not start, in one line; None while it still may.

    Serve starts a broken replica again and again: an error of tis-ray's own will not go away by that.
    """
    messages = [status.message, *(deployment.message for deployment in status.deployments.values())]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    own = [line.partition(": ")[2] for line in lines if line.startswith("tis_ray.errors.")]
    if own:
        return own[-1]
    if status.status not in ("DEPLOY_FAILED", "UNHEALTHY"):
        return None
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["no reason given"])[-1]
