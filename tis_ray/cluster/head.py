"""The head of a Ray cluster, reached over HTTP where its dashboard listens: jobs, their logs, files beside the logs.

The log service sends any file of a node's log folder, byte for byte. What a job leaves there, links included, can so be
fetched through the one port that submitting needs anyway, from clusters that share no storage with this machine.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import requests  # what Ray's client raises
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from tis_ray.errors import ConfigError, ServiceError

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
PROBE_S = 10.0
FETCH_S = 24 * 3600  # bounds the transfer of one file, which Ray would end after 30 s
STALL_S = 120.0  # after which a transfer that stands still is given up


class Head:
    """The jobs of one cluster. Every method raises `ServiceError` where the cluster is not reached or refuses."""

    def __init__(self, address: str) -> None:
        """Connect. Raises `ConfigError` for an address that is not of HTTP."""
        self.address = _checked(address).rstrip("/")
        with self._spoken_to():
            _probe(self.address)
            with _without_variables():
                self._client = JobSubmissionClient(self.address)

    def submit(
        self, entrypoint: str, *, job: str, working_dir: Path, variables: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:
        """Send a folder and have `entrypoint` run in it, as the job named `job`."""
        environment = {"working_dir": str(working_dir), "env_vars": dict(variables)}
        with self._spoken_to():
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, runtime_env=environment, metadata=dict(metadata)
            )

    def jobs(self) -> Sequence[JobDetails]:
        """All jobs that were submitted, the newest last."""
        with self._spoken_to():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def job(self, job: str) -> JobDetails:
        """How a job is. Raises `ConfigError` where there is none of that name."""
        with self._spoken_to(job):
            return self._client.get_job_info(job)

    def stop(self, job: str) -> None:
        """Ask a job to end."""
        with self._spoken_to(job):
            self._client.stop_job(job)

    async def tail(self, job: str) -> AsyncIterator[str]:
        """The job's log from its beginning, in pieces, until the job has ended or the connection breaks."""
        async for piece in self._client.tail_job_logs(job):
            yield piece

    @contextmanager
    def file(self, node: str, name: str) -> Iterator[Iterator[bytes]]:
        """The content, in pieces, of the file `name` in the log folder of a node."""
        query = {"node_id": node, "filename": name, "lines": "-1", "timeout": str(FETCH_S), "filter_ansi_code": "false"}
        url, limits_s = f"{self.address}/api/v0/logs/file", (PROBE_S, STALL_S)
        # No public method of Ray's gives bytes, and its private one would hold all of them. This signs in as it does.
        headers = self._client._headers
        with (
            self._spoken_to(),
            requests.get(url, params=query, headers=headers, stream=True, timeout=limits_s) as answer,
        ):
            if answer.status_code != 200:
                raise ServiceError(f"{self.address}: expected the file {name}; got {_line(answer.text)}")
            yield answer.iter_content(2**20)

    @contextmanager
    def _spoken_to(self, job: str = "") -> Iterator[None]:
        try:
            yield
        except AuthenticationError:
            raise ServiceError(
                f"{self.address}: the cluster asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or keep it "
                "in ~/.ray/auth_token"
            ) from None
        except (RuntimeError, ConnectionError, requests.RequestException) as error:
            if job and "404" in str(error):
                raise ConfigError(f"job: expected one that `tis-ray jobs` lists; got {job}") from None
            raise ServiceError(f"{self.address}: {_line(error)}") from None


def _checked(address: str) -> str:
    try:
        url = httpx.URL(address)
        if url.scheme in ("http", "https") and url.host:
            return address
    except httpx.InvalidURL:
        pass
    raise ConfigError(f"address: expected that of Ray's dashboard, as http://HEAD:8265; got '{address}'")


def _probe(address: str) -> None:
    """Fail soon and clearly where nobody listens; Ray's own client would wait for minutes."""
    try:
        status = httpx.get(f"{address}/api/version", timeout=PROBE_S).status_code
    except httpx.TransportError as error:
        got = _line(error) or type(error).__name__
    else:
        if status in (200, 401, 403):  # Ray's own, or it wants a token
            return
        got = f"HTTP status {status}"
    raise ServiceError(f"address: expected a Ray cluster's dashboard at {address}; got {got}")


@contextmanager
def _without_variables() -> Iterator[None]:
    """Ray's client would prefer its variables to the address that it is given."""
    kept = {name: os.environ.pop(name) for name in ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _line(error: Any) -> str:
    return " ".join(str(error).split())[:500]
