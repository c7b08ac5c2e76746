"""The client for asyncio: `await AsyncClient(url).segment("street.jpg")`, and many images at once for both clients."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import httpx

from tis_ray.errors import InputError, ServiceError
from tis_ray.serving.answers import Result
from tis_ray.serving.exchange import ENSEMBLE, READY_PAUSE_S, READY_TIMEOUT_S, Exchange, Parameters, Wanted, wanted
from tis_ray.serving.pictures import Picture
from tis_ray.serving.retrying import Reply, Tries

if TYPE_CHECKING:
    from tis_ray.instances import Categories


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many images: either its `result`, or the `error` that kept it from being answered.

    `position` counts the images that were given from 0; `image` is what was given there.
    """

    position: int
    image: Picture
    result: Result | None = None
    error: ServiceError | InputError | None = None

    def get(self) -> Result:
        """The result; raises the error where there is none."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class AsyncClient:
    """`tis_ray.Client` for asyncio: the same methods in the same words, to be awaited.

    `max_in_flight` bounds how many images are asked for at once, by however many tasks; the others wait here, before
    their files are read. Cancelling a call closes its connection, by which the service knows that nobody waits.

    One client belongs to one event loop.
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
        self._open(Exchange(url, token=token, timeout_s=timeout_s, retries=retries, max_in_flight=max_in_flight))

    @classmethod
    def sharing(cls, exchange: Exchange) -> Self:
        """A client of the same service that knows what is known of it already."""
        client = cls.__new__(cls)
        client._open(exchange)
        return client

    def _open(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._places = asyncio.Semaphore(exchange.max_in_flight)
        self._http = httpx.AsyncClient(**exchange.http_options())

    async def segment(self, image: Picture, **parameters: Unpack[Parameters]) -> Result:
        """See `Client.segment`."""
        async with self._places:
            what = await asyncio.to_thread(wanted, image, parameters)
            return self._exchange.result(await self._ask(what))

    async def segment_many(
        self, images: Iterable[Picture], **parameters: Unpack[Parameters]
    ) -> AsyncGenerator[Outcome, None]:
        """Every image's `Outcome`, in the order in which they come, `max_in_flight` of them asked for at any time.

        An image that fails has an error in its outcome and ends nothing. `images` are taken one by one as places get
        free. Close the generator (`contextlib.aclosing`) when leaving the loop early: that breaks off what is on its
        way.
        """
        numbered = enumerate(images)
        waiting: set[asyncio.Task[Outcome]] = set()
        done: deque[asyncio.Task[Outcome]] = deque()
        try:
            while True:
                while len(waiting) < self._exchange.max_in_flight and (item := next(numbered, None)) is not None:
                    waiting.add(asyncio.create_task(self._outcome(*item, parameters)))
                if not done:
                    if not waiting:
                        return
                    ready, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    done.extend(ready)
                    continue  # first fill the places that got free
                yield done.popleft().result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def ensemble(self) -> dict[str, Any]:
        """See `Client.ensemble`."""
        return await self._ask(ENSEMBLE)

    async def categories(self) -> "Categories":
        """See `Client.categories`."""
        return self._exchange.categories(await self.ensemble())

    async def ready(self) -> bool:
        """See `Client.ready`."""
        try:
            return (await self._http.get("/readyz", timeout=READY_TIMEOUT_S)).status_code == 200
        except httpx.HTTPError:
            return False

    async def wait_until_ready(self, within_s: float) -> None:
        """See `Client.wait_until_ready`."""
        end = time.monotonic() + within_s
        while not await self.ready():
            if time.monotonic() > end:
                raise ServiceError(f"{self._exchange.url} is not ready within {within_s:g} s")
            await asyncio.sleep(READY_PAUSE_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _outcome(self, position: int, image: Picture, parameters: Mapping[str, Any]) -> Outcome:
        try:
            return Outcome(position, image, result=await self.segment(image, **parameters))
        except (ServiceError, InputError) as error:
            return Outcome(position, image, error=error)

    async def _ask(self, what: Wanted) -> dict[str, Any]:
        tries = self._exchange.tries(what)
        while True:
            outcome = await self._try(what, tries)
            pause_s = tries.pause_after(outcome)
            if pause_s is None:
                return self._exchange.answer(what, outcome)
            await asyncio.sleep(pause_s)

    async def _try(self, what: Wanted, tries: Tries) -> Reply | httpx.RequestError:
        request = self._http.build_request(**self._exchange.request(what, tries))
        try:
            async with asyncio.timeout(tries.left_s):
                response = await self._http.send(request)
                return Reply(response.status_code, response.headers, response.content)
        except httpx.RequestError as error:
            return error
        except TimeoutError:  # httpx's own limit is one of silence; an answer that trickles in is late, too
            return httpx.ReadTimeout("the answer was not whole in time")
