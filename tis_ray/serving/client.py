"""A client of the service: `Client(url).segment("street.jpg")`. Imports neither PyTorch nor Ray."""

import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import httpx

from tis_ray.errors import ServiceError
from tis_ray.serving.answers import Result
from tis_ray.serving.async_client import AsyncClient, Outcome
from tis_ray.serving.background import drawn
from tis_ray.serving.exchange import ENSEMBLE, READY_PAUSE_S, READY_TIMEOUT_S, Exchange, Parameters, Wanted, wanted
from tis_ray.serving.pictures import Picture
from tis_ray.serving.retrying import Reply, Tries

if TYPE_CHECKING:
    from tis_ray.instances import Categories


class Client:
    """Talks to one service; it keeps its connections, so use one for many images and close it at the end.

    A request that the service could not answer now (503), or that was lost with the process that had it, is sent
    again, up to `retries` times, after the time the service asks for and part of a pause that doubles. `timeout_s`
    bounds a request with all of that. `max_in_flight` images are asked for at once by `segment_many`.

    Threads may share a client. `AsyncClient` has the same methods for asyncio.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout_s: float = 330.0,
        retries: int = 4,
        max_in_flight: int = 8,
    ) -> None:
        self._exchange = Exchange(url, token=token, timeout_s=timeout_s, retries=retries, max_in_flight=max_in_flight)
        self._http = httpx.Client(**self._exchange.http_options())

    def segment(self, image: Picture, **parameters: Unpack[Parameters]) -> Result:
        """The instances of an image: a file, the bytes of one, or a uint8 RGB array (H, W, 3), sent as PNG.

        `parameters` are those of `/v1/segment`: score_threshold, max_instances, masks, deadline_s, explain.
        Raises `ServiceError` with the service's reason, `InputError` for what can be no image.
        """
        return self._exchange.result(self._ask(wanted(image, parameters)))

    def segment_many(self, images: Iterable[Picture], **parameters: Unpack[Parameters]) -> Generator[Outcome]:
        """Every image's `Outcome`, in the order in which they come, `max_in_flight` of them asked for at any time.

        An image that fails has an error in its outcome and ends nothing. `images` are taken one by one as places get
        free, in a thread of its own. Leaving the loop early breaks off what is on its way.
        """
        return drawn(lambda: self._many(images, parameters))

    def ensemble(self) -> dict[str, Any]:
        """What the service runs: views, categories, fusion section, limits."""
        return self._ask(ENSEMBLE)

    def categories(self) -> "Categories":
        """The service's classes; `Result.to_instances` takes them."""
        return self._exchange.categories(self.ensemble())

    def ready(self) -> bool:
        """Whether every deployment has answered a warm-up image; False also where nobody answers."""
        try:
            return self._http.get("/readyz", timeout=READY_TIMEOUT_S).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, within_s: float) -> None:
        """Return once the service is ready. Raises `ServiceError` after `within_s` seconds."""
        end = time.monotonic() + within_s
        while not self.ready():
            if time.monotonic() > end:
                raise ServiceError(f"{self._exchange.url} is not ready within {within_s:g} s")
            time.sleep(READY_PAUSE_S)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, what: Wanted) -> dict[str, Any]:
        tries = self._exchange.tries(what)
        while True:
            outcome = self._try(what, tries)
            pause_s = tries.pause_after(outcome)
            if pause_s is None:
                return self._exchange.answer(what, outcome)
            time.sleep(pause_s)

    def _try(self, what: Wanted, tries: Tries) -> Reply | httpx.RequestError:
        request = self._http.build_request(**self._exchange.request(what, tries))
        try:
            response = self._http.send(request, stream=True)
            try:
                return Reply(response.status_code, response.headers, _read(response, tries))
            finally:
                response.close()
        except httpx.RequestError as error:
            return error

    async def _many(self, images: Iterable[Picture], parameters: Parameters) -> AsyncGenerator[Outcome, None]:
        async with (
            AsyncClient.sharing(self._exchange) as client,
            aclosing(client.segment_many(images, **parameters)) as outcomes,
        ):
            async for outcome in outcomes:
                yield outcome


def _read(response: httpx.Response, tries: Tries) -> bytes:
    """The body. httpx's own limit is one of silence; an answer that trickles in is late, too."""
    parts = []
    for part in response.iter_bytes():
        parts.append(part)
        if tries.late:
            raise httpx.ReadTimeout("the answer was not whole in time")
    return b"".join(parts)
