"""Who is let in: a request that cannot be answered in time is refused at once, and told when to come back.

What a request takes is learnt from those before it. One that found nobody in the house took `alone_s`; each that was
there before it made it take `each_s` longer. Both are moving averages, so a request that finds n others is expected to
take `alone_s + n * each_s` seconds. With one slow model that answers one picture after the other `each_s` comes to
the model's seconds; with replicas, or with pictures that share forwards, it is as much less as they bring.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from tis_ray.serving.problems import ProblemError

# What a request may be expected to take of its time: views have nine tenths of it, the first of two passes 70% of that.
TIME_SHARE = 0.6
_WEIGHT = 0.15  # of the newest request in the moving averages
# What company costs is old news after so many seconds, and so many times a request's own, without any that had some.
_NEWS_S, _NEWS_TIMES = 10.0, 5.0


class LateError(ProblemError):
    """A request that was let in and would have taken longer than it had."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A request in the house: when it came, and how many it found there."""

    at_s: float
    before: int


class Pace:
    """How long requests take, by how many were there before them. `clock` tells seconds.

    Until the first request was answered nothing is known, and until the first that found company, each of those it
    found is reckoned as if it took a request's whole time.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._inside = 0
        self._alone_s: float | None = None
        self._each_s: float | None = None
        self._seen = 0.0
        self._learnt_at_s = -math.inf

    @property
    def inside(self) -> int:
        """How many requests are in the house."""
        return self._inside

    def enter(self) -> Entered:
        """A request is let in."""
        entered = Entered(self._clock(), self._inside)
        self._inside += 1
        return entered

    def leave(self, entered: Entered, *, answered: bool, late: bool = False) -> None:
        """A request is through. Of one that was `late` its time tells too: it would have taken longer than that.

        One that is neither has told nothing: it was a bad picture, or its client has gone.
        """
        self._inside -= 1
        took_s = self._clock() - entered.at_s
        if answered or (late and took_s > (self.expected_s(entered.before) or 0.0)):
            self._learn(took_s, entered.before)
        elif late and entered.before:
            self._learnt_at_s = self._clock()  # as was expected, for all that it could tell

    def expected_s(self, before: int | None = None) -> float | None:
        """Seconds of a request that finds `before` others, by default those that are there; None if nothing is known.

        Replicas that are free make no request wait, so what few cost tells nothing of many: each beyond one more than
        was seen lately is reckoned as a whole request.
        """
        if self._alone_s is None:
            return None
        before = self._inside if before is None else before
        known = min(before, self._seen + 1)
        return self._alone_s + known * self.each_s + (before - known) * max(self._alone_s, self.each_s)

    @property
    def each_s(self) -> float:
        """Seconds that each request costs whoever comes after it; 0 while nothing is known."""
        return self._each_s if self._each_s is not None else self._alone_s or 0.0

    def retry_after_s(self, seconds: float) -> int:
        """Whole seconds until a request with so much time would be let in, if nobody else came; at least 1."""
        expected_s = self.expected_s()
        too_long_s = 0.0 if expected_s is None else expected_s - TIME_SHARE * seconds
        return max(1, math.ceil(max(too_long_s, self.each_s)))

    def in_time(self, seconds: float) -> bool:
        """Whether a request with so many seconds is expected to be answered in time.

        Who finds nobody is let in whatever is expected. So is who finds one alone, where what company costs is old
        news: else replicas that could answer both side by side, or an end of what made them slow, would never be
        noticed.
        """
        expected_s = self.expected_s()
        if self._inside == 0 or expected_s is None or expected_s <= TIME_SHARE * seconds:
            return True
        return self._inside == 1 and self._old_news

    def _learn(self, took_s: float, before: int) -> None:
        if self._alone_s is None:
            self._alone_s = took_s / (1 + before)
        self._seen = max(before, self._seen + _WEIGHT * (before - self._seen))
        if before == 0:
            self._alone_s += _WEIGHT * (took_s - self._alone_s)
            return
        each_s = max(took_s - self._alone_s, 0.0) / before
        if self._each_s is None or (self._old_news and each_s < self._each_s):
            self._each_s = each_s  # what was slow long ago is forgiven at once; nobody is condemned for one picture
        self._each_s += _WEIGHT * (each_s - self._each_s)
        self._learnt_at_s = self._clock()

    @property
    def _old_news(self) -> bool:
        """Whether what company costs was learnt so long ago that it has to be seen anew."""
        return self._clock() - self._learnt_at_s > max(_NEWS_S, _NEWS_TIMES * (self._alone_s or 0.0))
