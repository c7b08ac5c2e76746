"""A load that does not wait for answers: requests at a fixed rate, whatever becomes of those before.

A generator that sends the next request once the last is answered slows down with the service and never overloads it.
This one keeps to its times. Where its own process gets too little of the machine for that, the fates tell how late.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

GIVEN_UP_AFTER_S = 60.0  # beyond its deadline: nothing is to be heard of it any more


@dataclass(frozen=True)
class Fate:
    """What became of one request.

    status:  the HTTP status, or what became of the connection
    seconds: from when it was sent until its whole answer was there
    late_s:  how long after it was due it was sent, which is this generator's fault
    """

    number: int
    status: int | str
    seconds: float
    late_s: float
    content: bytes = b""
    retry_after: str | None = None


@dataclass(frozen=True)
class Pictures:
    """What is sent to `url`, in turn: each with `deadline_s` to be answered in."""

    url: str
    contents: Sequence[bytes]
    deadline_s: float
    content_type: str = "image/jpeg"


def offer(pictures: Pictures, *, rate_per_s: float, seconds: float) -> list[Fate]:
    """Send `rate_per_s` requests each second for `seconds`; their fates in the order of sending."""

    async def send(client: httpx.AsyncClient) -> list[Fate]:
        begin = time.perf_counter()
        tasks = []
        for number in range(round(rate_per_s * seconds)):
            due = begin + number / rate_per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(_send(client, pictures, number, due)))
        return list(await asyncio.gather(*tasks))

    return asyncio.run(_with_client(pictures.url, send))


def ask(pictures: Pictures, *, count: int, together: int, first: int = 0) -> list[Fate]:
    """Send `count` requests, `together` at a time, each as soon as another is answered: as fast as the service is.

    They are numbered from `first`, by which the pictures are chosen; their fates come in that order.
    """

    async def send(client: httpx.AsyncClient) -> list[Fate]:
        fates: list[Fate] = []
        numbers = iter(range(first, first + count))

        async def work() -> None:
            for number in numbers:
                fates.append(await _send(client, pictures, number, time.perf_counter()))

        await asyncio.gather(*[work() for _ in range(together)])
        return sorted(fates, key=lambda fate: fate.number)

    return asyncio.run(_with_client(pictures.url, send))


async def _with_client(url: str, send: Callable[[httpx.AsyncClient], Awaitable[list[Fate]]]) -> list[Fate]:
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=unlimited) as client:
        return await send(client)


async def _send(client: httpx.AsyncClient, pictures: Pictures, number: int, due: float) -> Fate:
    sent = time.perf_counter()
    late_s = sent - due
    try:
        response = await client.post(
            "/v1/segment",
            params={"deadline_s": pictures.deadline_s},
            content=pictures.contents[number % len(pictures.contents)],
            headers={"Content-Type": pictures.content_type},
            timeout=pictures.deadline_s + GIVEN_UP_AFTER_S,
        )
    except httpx.HTTPError as error:
        return Fate(number, type(error).__name__, time.perf_counter() - sent, late_s)
    seconds = time.perf_counter() - sent
    return Fate(number, response.status_code, seconds, late_s, response.content, response.headers.get("Retry-After"))


def with_status(fates: Sequence[Fate], status: int | str) -> list[Fate]:
    """Those that ended so."""
    return [fate for fate in fates if fate.status == status]


def percentile(seconds: Sequence[float], percent: int) -> float:
    """The value that `percent` in a hundred do not exceed; 0 of none at all."""
    if len(seconds) < 2:
        return max(seconds, default=0.0)
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def in_words(fates: Sequence[Fate]) -> str:
    """How many ended how, and how long that took."""
    parts = []
    for status, number in sorted(Counter(fate.status for fate in fates).items(), key=lambda item: str(item[0])):
        seconds = [fate.seconds for fate in with_status(fates, status)]
        parts.append(
            f"{number} x {status} (median {percentile(seconds, 50):.2f} s, 99% within {percentile(seconds, 99):.2f} s, "
            f"slowest {max(seconds):.2f} s)"
        )
    return ", ".join(parts)
