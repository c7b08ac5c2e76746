"""What the waiting and the asynchronous client share: requests, when they are tried again, and what replies mean.

Nothing here waits or opens a connection, so that the two clients differ in nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import httpx
import orjson

from tis_ray.errors import InputError, ServiceError
from tis_ray.serving.answers import Result
from tis_ray.serving.pictures import Picture, encode
from tis_ray.serving.retrying import Reply, Tries

if TYPE_CHECKING:
    from tis_ray.instances import Categories

READY_TIMEOUT_S, READY_PAUSE_S = 10.0, 0.2
_GRACE_S = 1.0
_CONNECT_S = 10.0
_TOKEN_HINT = "; token=... of a client and TIS_RAY_TOKEN or --token of tis-ray segment send one"


class Parameters(TypedDict, total=False):
    """What may be said with an image: the query parameters of `/v1/segment`. None is as good as leaving one out.

    deadline_s: seconds in which the answer has to be there, all tries included
    """

    score_threshold: float | None
    max_instances: int | None
    masks: Literal["rle", "polygon", "none"] | None
    deadline_s: float | None
    explain: bool | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that may be sent several times."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] | None = None
    query: Mapping[str, str] | None = None
    deadline_s: float | None = None


ENSEMBLE = Wanted("GET", "/v1/ensemble")


def wanted(image: Picture, parameters: Mapping[str, Any]) -> Wanted:
    """The request for the instances of an image. Reads the file or packs the pixels; raises `InputError`."""
    content, type_ = encode(image)
    given = {key: value for key, value in parameters.items() if value is not None}
    deadline_s = given.pop("deadline_s", None)
    if deadline_s is not None and not (isinstance(deadline_s, (int, float)) and 0 < deadline_s < float("inf")):
        raise InputError(f"deadline_s: expected a number of seconds above 0; got {deadline_s!r}")
    query = {key: _text(value) for key, value in given.items()}
    return Wanted("POST", "/v1/segment", content, {"Content-Type": type_}, query, deadline_s)


class Exchange:
    """One service as a client knows it: its address, a token, and how patiently it is asked.

    Raises `InputError` for an address that is none and a token that no header can carry.
    """

    def __init__(self, url: str, *, token: str | None, timeout_s: float, retries: int, max_in_flight: int) -> None:
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InputError("token: expected printable ASCII characters; got others")
        if max_in_flight < 1:
            raise InputError(f"max_in_flight: expected at least 1; got {max_in_flight}")
        self.url = url.rstrip("/")
        self.max_in_flight = max_in_flight
        self._token = token
        self._timeout_s = timeout_s
        self._retries = retries
        self._reached = False
        address = _checked(url)
        self._is_local = address.host in ("127.0.0.1", "localhost", "::1")
        self._is_plain = address.scheme == "http"

    def http_options(self) -> dict[str, Any]:
        """How to open `httpx.Client` or `httpx.AsyncClient`."""
        return {
            "base_url": self.url,
            "headers": {} if self._token is None else {"Authorization": f"Bearer {self._token}"},
            # A proxy from the environment cannot reach this machine's own services.
            "trust_env": not self._is_local,
            # Certificates take a while to load, for nothing where the address is one of plain HTTP.
            "verify": not self._is_plain,
            "limits": httpx.Limits(max_connections=None),
        }

    def tries(self, what: Wanted) -> Tries:
        """The tries of a request that begin now."""
        return Tries(
            retries=self._retries,
            within_s=self._within_s(what),
            deadline_s=what.deadline_s,
            reached=self._reached,
        )

    def request(self, what: Wanted, tries: Tries) -> dict[str, Any]:
        """The next try, in the words of httpx's `build_request`."""
        deadline = {} if tries.deadline_s is None else {"deadline_s": _text(tries.deadline_s)}
        return {
            "method": what.method,
            "url": what.path,
            "content": what.content,
            "headers": what.headers,
            "params": {**(what.query or {}), **deadline},
            "timeout": httpx.Timeout(tries.left_s, connect=min(tries.left_s, _CONNECT_S)),
        }

    def answer(self, what: Wanted, outcome: Reply | httpx.RequestError) -> dict[str, Any]:
        """The JSON object that the service answered with. Raises `ServiceError` with the reason where there is none."""
        if isinstance(outcome, httpx.TimeoutException) and not isinstance(outcome, httpx.ConnectTimeout):
            raise ServiceError(f"{self.url}{what.path}: expected an answer within {self._within_s(what):g} s; got none")
        if isinstance(outcome, httpx.RequestError):
            raise ServiceError(f"{self.url}: expected a tis-ray service; {_reason(outcome)}")
        self._reached = True
        try:
            content = orjson.loads(outcome.content)
        except orjson.JSONDecodeError:
            content = None
        if outcome.status == 200 and isinstance(content, dict):
            return content
        if outcome.is_problem and isinstance(content, dict):
            hint = _TOKEN_HINT if outcome.status == 401 else ""
            detail = f"{outcome.status} {content.get('detail')}{hint}"
            raise ServiceError(f"{self.url}{what.path}: {detail}", status=outcome.status)
        raise ServiceError(f"{self.url}: {_stranger(what, outcome)}", status=outcome.status)

    def _within_s(self, what: Wanted) -> float:
        # The service ends a request in time for its answer to travel; this leaves that answer the time to arrive.
        return self._timeout_s if what.deadline_s is None else min(self._timeout_s, what.deadline_s + _GRACE_S)

    def result(self, answer: dict[str, Any]) -> Result:
        """An answer of `/v1/segment`, parsed. Raises `ServiceError` for another object."""
        try:
            return Result.from_json(answer)
        except InputError as error:
            raise ServiceError(f"{self.url}: expected a tis-ray service; {error}", status=200) from None

    def categories(self, answer: dict[str, Any]) -> "Categories":
        """The classes in an answer of `/v1/ensemble`. Raises `ServiceError` for another object."""
        from tis_ray.instances import Categories

        if not isinstance(answer.get("categories"), list):
            raise ServiceError(f"{self.url}: expected a tis-ray service; {ENSEMBLE.path} names no categories")
        return Categories.from_json(answer["categories"])


def _checked(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
        reason = "" if address.scheme in ("http", "https") and address.host else "no http:// or https:// and a host"
        reason = reason or ("a query or fragment" if address.query or address.fragment else "")
    except httpx.InvalidURL as error:
        reason = str(error)
    if reason:
        raise InputError(f"url: expected the address of a service as http://host:port; got '{url}' ({reason})")
    return address


def _reason(error: httpx.RequestError) -> str:
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        return f"nobody answers there ({said})"
    if isinstance(error, httpx.ConnectError):
        if "SSL" in said or "TLS" in said:
            return f"who listens there does not speak TLS as expected ({said}); is it http:// rather than https://?"
        return f"nobody listens there ({said}); `tis-ray serve ENSEMBLE` starts one"
    return f"the connection broke ({said})"


def _stranger(what: Wanted, reply: Reply) -> str:
    """What somebody else than a tis-ray service said."""
    said = " ".join(reply.content[:200].decode(errors="replace").split())[:100]
    kind = reply.headers.get("Content-Type", "no type").partition(";")[0]
    if reply.status in (500, 502, 503, 504):
        return f"{reply.status} the service is there but its gateway did not answer ({said or kind})"
    if 300 <= reply.status < 400 and (elsewhere := reply.headers.get("Location")):
        return f"expected a tis-ray service; {what.path} is redirected to {elsewhere}; give that address"
    return f"expected a tis-ray service; {what.path} answered {reply.status} with {kind} ({said})"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
