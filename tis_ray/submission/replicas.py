"""More replicas of a running service for the time of a batch run: its Serve config is submitted again with other
numbers, and with the former ones at the end.

Replicas that run go on running: Serve restarts none for a number. While a run has changed them, a note lies in its
folder; one that a killed run has left there is made good by whoever takes up that folder next.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import ray
import requests  # what Ray's client raises
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

from tis_ray import whole_files
from tis_ray.errors import ServiceError
from tis_ray.serving.running import APPLICATION
from tis_ray.submission.replica_counts import NOTE, Change, raised
from tis_ray.submission.stopping import terminable, unbroken

_TAKEN_WITHIN_S = 20.0
_POLL_S = 0.2

Say = Callable[[str], None]


@contextmanager
def more_replicas(wanted: Mapping[str, int], *, folder: Path, say: Say, address: str | None = None) -> Iterator[None]:
    """Meanwhile the service on the Ray that this process is connected to is to have so many replicas by deployment.

    folder:  of the run, which this process has locked: a note is kept there
    address: of Ray's dashboard; None for where the cluster says that it is

    Nothing is waited for: replicas answer as they come up. The former numbers come back when the block ends, also by a
    signal (SIGTERM, SIGHUP, Ctrl-C). Raises `ServiceError` where the service was not deployed from a config, or
    something outside Serve counts its replicas.
    """
    if not wanted:
        yield
        return
    serve, note = _Serve(address or _dashboard()), folder / NOTE
    with terminable():
        try:
            _raise(serve, wanted, note, say)
            yield
        finally:
            with unbroken():
                put_back(folder, say=say)


def put_back(folder: Path, *, say: Say) -> None:
    """Give a service its former number of replicas, where a run in this folder has left a note that it changed them.

    Takes no connection to Ray. Never raises: a run that is through is not to fail by it, and one that fails has its own
    reason.
    """
    note = folder / NOTE
    if not note.exists():
        return
    try:
        serve = _Serve(_noted(note)["address"])
        change, _ = _changed(note, serve)
        application, _ = serve.application()
        former = change.undone(application)
        if former != application:
            serve.deploy(former)
            say("the service has its former number of replicas again")
        note.unlink()
    except _NotDeployedError:  # nor are its replicas
        note.unlink()
    except ServiceError as error:
        say(f"the service keeps the replicas of a run: {error}; the next run in {folder} tries again")


def _raise(serve: "_Serve", wanted: Mapping[str, int], note: Path, say: Say) -> None:
    former, now = serve.application()
    before = now
    if note.exists():  # of a run that was killed: what there is now are its numbers
        left, before = _changed(note, serve)
        former = left.undone(former)
    counts = {name: max(number, before.get(name, 1)) for name, number in wanted.items()}
    after = raised(former, counts)
    content = {
        "address": serve.address,
        "session": serve.session,
        "numbers": before,
        **asdict(Change.between(former, after)),
    }
    with whole_files.replacing(note, durable=True) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    serve.deploy(after)
    told = ", ".join(f"{name} {now.get(name, 1)} -> {number}" for name, number in counts.items())
    say(f"replicas for this run: {told}" + ("" if _is_taken(serve, counts) else ", which Serve has not taken yet"))


def _changed(note: Path, serve: "_Serve") -> tuple[Change, dict[str, int]]:
    """What the note says was changed, and the numbers before. Raises `ServiceError` where that was elsewhere."""
    content = _noted(note)
    if content["session"] != serve.session:
        raise ServiceError(
            f"{note}: expected the cluster in which a run has changed replicas, {content['session']} at "
            f"{content['address']}; got {serve.session} (delete the file if that cluster is gone)"
        )
    return Change(content["before"], content["after"]), content["numbers"]


def _noted(note: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = orjson.loads(note.read_bytes())
        if content.keys() != {"address", "session", "numbers", "before", "after"}:
            raise ValueError("other keys")
    except (OSError, ValueError, AttributeError) as error:
        raise ServiceError(f"{note}: expected a note of replicas; got {error}") from None
    return content


def _is_taken(serve: "_Serve", counts: Mapping[str, int]) -> bool:
    """Whether Serve goes by these numbers within some time; the replicas themselves are not waited for."""
    end = time.monotonic() + _TAKEN_WITHIN_S
    while time.monotonic() < end:
        _, now = serve.application()
        if all(now.get(name) == number for name, number in counts.items()):
            return True
        time.sleep(_POLL_S)
    return False


class _NotDeployedError(ServiceError):
    """There is no application that was deployed from a config."""


class _Serve:
    """Serve's configs by the REST interface of Ray's dashboard. All methods raise `ServiceError`.

    `session` is the cluster's own name, another one after a restart.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with self._spoken_to():
            self._client = ServeSubmissionClient(address)
            self.session = str(self._client._do_request("GET", "/api/ray/version").json()["session_name"])

    def application(self) -> tuple[dict[str, Any], dict[str, int]]:
        """The config of the ensemble's application, and how many replicas each deployment is to have now."""
        with self._spoken_to():
            details = self._client.get_serve_details()
        running = details["applications"].get(APPLICATION)
        if running is None:
            raise _NotDeployedError(f"--replicas: expected the application {APPLICATION} at {self.address}; got none")
        if running.get("deployed_app_config") is None:
            raise _NotDeployedError(
                "--replicas: expected a service that was deployed from a config (`serve deploy`); got one that was "
                "started in Python, as `tis-ray serve` does: give its ensemble the replicas, or leave out --address"
            )
        now = {name: one["target_num_replicas"] for name, one in running["deployments"].items()}
        return running["deployed_app_config"], now

    def deploy(self, application: Mapping[str, Any]) -> None:
        """Submit the application's config anew, and all others' as they are: left out, they would be deleted."""
        with self._spoken_to():
            details = self._client.get_serve_details()
            configs = {name: one.get("deployed_app_config") for name, one in details["applications"].items()}
            configs[APPLICATION] = dict(application)
            options = ("proxy_location", "http_options", "grpc_options", "target_capacity")
            config = {key: details[key] for key in options if details.get(key) is not None}
            self._client.deploy_applications(config | {"applications": [one for one in configs.values() if one]})

    @contextmanager
    def _spoken_to(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ConnectionError, requests.RequestException, KeyError) as error:
            line = " ".join(str(error).split())[:500]
            raise ServiceError(f"Ray's dashboard at {self.address}: {line or type(error).__name__}") from None


def _dashboard() -> str:
    url = ray._private.worker.global_worker.node.address_info.get("webui_url")
    if not url:
        raise ServiceError("--replicas: expected a cluster with Ray's dashboard, through which it asks Serve; got none")
    return f"http://{url}"
