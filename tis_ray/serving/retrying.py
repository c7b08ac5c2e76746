"""When a client sends a request again, and after which pause: decided here, waited for by its callers.

That is after a 503, after Ray's own 500 or a proxy's 502 for a gateway that is lost, and where the connection broke.
What the service itself says of a request, every 4xx and its own errors, is never asked for twice; nor is an answer that
came too late.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

PROBLEM_TYPE = "application/problem+json"
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.5, 10.0
_LOST = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_REFUSED = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_problem(self) -> bool:
        """Whether the service itself speaks, rather than Ray's proxy or one before it."""
        return self.headers.get("Content-Type", "").startswith(PROBLEM_TYPE)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may fare better in a moment."""
        return self.status == 503 or (self.status in (500, 502) and not self.is_problem)


class Tries:
    """The tries of one request: at most 1 + `retries`, all within `within_s` seconds from now.

    deadline_s: what the user granted for the answer, None where nothing was said. It counts from now, too: a later
                try tells the service what is left of it.
    reached:    whether this service has ever answered. One that never did is not there; of one that did, a refused
                connection means that it is being replaced.
    """

    def __init__(self, *, retries: int, within_s: float, deadline_s: float | None = None, reached: bool = True) -> None:
        now = time.monotonic()
        self._left = retries
        self._begun = 0
        self._reached = reached
        self._asked_s = deadline_s
        self._deadline = None if deadline_s is None else now + deadline_s
        self._end = now + within_s

    @property
    def left_s(self) -> float:
        """Seconds until there has to be an answer; a little more than 0 at least."""
        return max(self._end - time.monotonic(), 0.01)

    @property
    def late(self) -> bool:
        """Whether there should have been an answer by now."""
        return time.monotonic() > self._end

    @property
    def deadline_s(self) -> float | None:
        """The `deadline_s` to send with the next try: as the user gave it, or what is left of it."""
        if self._deadline is None or self._begun == 0:
            return self._asked_s
        return max(round(self._deadline - time.monotonic(), 3), 0.001)

    def pause_after(self, outcome: Reply | httpx.RequestError) -> float | None:
        """Seconds to wait before the next try, or None where `outcome` is what the caller gets.

        As long as `Retry-After` says and, on top of it, a part of a pause that doubles, so that many clients that were
        refused together do not come back together.
        """
        self._begun += 1
        doubled_s = _FIRST_PAUSE_S * 2 ** min(self._begun - 1, 10)
        pause_s = random.uniform(0.5, 1) * min(doubled_s, _MAX_PAUSE_S)
        if isinstance(outcome, Reply):
            self._reached = True
            passing = outcome.is_passing
            pause_s += _asked_pause_s(outcome.headers.get("Retry-After", ""))
        else:
            self._reached |= isinstance(outcome, _LOST)
            passing = isinstance(outcome, _LOST) or (self._reached and isinstance(outcome, _REFUSED))
        last = self._begun > self._left or time.monotonic() + pause_s > self._last_start
        return pause_s if passing and not last else None

    @property
    def _last_start(self) -> float:
        return self._end if self._deadline is None else min(self._end, self._deadline)


def _asked_pause_s(header: str) -> float:
    """Seconds that `Retry-After` asks for, as a number or a date; 0 where it says nothing of the kind."""
    if header.isdecimal():
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
