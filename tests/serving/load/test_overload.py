"""Ten times what the service can do, for a minute: who is let in is answered in time, the rest is refused quickly,
memory is bounded, and afterwards all is as before."""

import os
import statistics
import time
from dataclasses import replace

import pytest

from tests.serving.bad_days import TRANSPORT_S
from tests.serving.load.answers import essence
from tests.serving.load.conftest import DEADLINE_S, WAITING
from tests.serving.load.footprint import Memory, footprint, settled, store_mb, total, watched
from tests.serving.load.offering import GIVEN_UP_AFTER_S, Fate, Pictures, ask, in_words, offer, percentile, with_status

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECONDS = float(os.environ.get("TIS_RAY_OVERLOAD_SECONDS", "60"))
TIMES = 10
LEAST_DEADLINE_S, ROOMY = 5.0, 2  # twice what as many as are let in take, or more
REFUSED_WITHIN_S = 1.0  # 99 in a hundred
NORMAL_WITHIN_S = 10.0
GROWTH_MB = 300.0  # eight pictures, bodies in the proxy, and what a hundred connections take


def test_ten_times_the_capacity_costs_neither_deadlines_nor_memory(slow_pictures):
    pictures = slow_pictures
    quiet = ask(pictures, count=8, together=1)
    assert [fate.status for fate in quiet] == [200] * 8
    expected = [essence(fate.content) for fate in quiet]
    capacity, before, store_before = capacity_of(pictures), footprint(), settled()
    hurried = replace(pictures, deadline_s=min(max(LEAST_DEADLINE_S, ROOMY * WAITING / capacity), DEADLINE_S))
    with watched() as seen:
        ended = time.perf_counter() + SECONDS
        fates = offer(hurried, rate_per_s=TIMES * capacity, seconds=SECONDS)
        normal_s = normal_again(pictures, quiet) - ended
    after, peak = footprint(), max(seen, key=lambda one: total(one).pss_mb)
    answered, refused = with_status(fates, 200), with_status(fates, 503)
    print(
        f"{len(pictures.contents[0]) / 1e3:.0f} kB a picture; alone a request takes {middle_s(quiet):.2f} s, "
        f"with four at a time the service answers {capacity:.1f} a second.\n\n"
        f"{len(fates)} requests at {TIMES * capacity:.0f} a second for {SECONDS:.0f} s, each with a deadline of "
        f"{hurried.deadline_s:.1f} s: {in_words(fates)}; answered {len(answered) / SECONDS:.1f} a second; "
        f"sent at most {max(fate.late_s for fate in fates):.2f} s late.\n\n"
        f"Normal again {normal_s:.1f} s after the last one. "
        f"Object store {store_before:.0f} MB before, {settled():.0f} MB after.\n\n" + table(before, peak, after)
    )
    assert {fate.status for fate in fates} == {200, 503}
    assert max(fate.seconds for fate in answered) <= hurried.deadline_s + TRANSPORT_S
    assert percentile([fate.seconds for fate in refused], 99) <= REFUSED_WITHIN_S
    assert all(fate.retry_after is not None for fate in refused)
    assert [fate.number for fate in answered if essence(fate.content) != expected[fate.number % 8]] == []
    assert len(answered) >= 0.5 * capacity * SECONDS  # it goes on working at half its pace or more
    assert total(peak).pss_mb - total(before).pss_mb <= GROWTH_MB
    assert store_mb() <= store_before + 1
    assert normal_s <= NORMAL_WITHIN_S


def table(before: dict[str, Memory], peak: dict[str, Memory], after: dict[str, Memory]) -> str:
    """MB (PSS) of each kind of process, before, when all together had most, and after."""
    lines = ["| process | before, MB | at most | of it object store | after |", "|---|---|---|---|---|"]
    for name in [*sorted({*before, *peak, *after}), "all"]:
        first, most, last = (
            total(one) if name == "all" else one.get(name, Memory(0, 0)) for one in (before, peak, after)
        )
        lines.append(f"| {name} | {first.pss_mb:.0f} | {most.pss_mb:.0f} | {most.store_mb:.0f} | {last.pss_mb:.0f} |")
    return "\n".join(lines)


def capacity_of(pictures: Pictures) -> float:
    """Requests a second where as many are on their way as keep every view server busy."""
    start = time.perf_counter()
    fates = ask(pictures, count=32, together=4)
    assert [fate.status for fate in fates] == [200] * 32
    return len(fates) / (time.perf_counter() - start)


def normal_again(pictures: Pictures, quiet: list[Fate]) -> float:
    """When, on this process's clock, a request takes at most half as long again as the slowest did alone."""
    end = time.perf_counter() + GIVEN_UP_AFTER_S
    while time.perf_counter() < end:
        (fate,) = ask(pictures, count=1, together=1)
        if fate.status == 200 and fate.seconds <= 1.5 * max(one.seconds for one in quiet):
            break
        time.sleep(0.2)
    return time.perf_counter()


def middle_s(fates: list[Fate]) -> float:
    return statistics.median(fate.seconds for fate in fates)
