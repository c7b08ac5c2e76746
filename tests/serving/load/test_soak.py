"""Thousands of requests leave no trace: the same memory, the same answers."""

import os
import time

import pytest

from tests.running_service import write_ensemble
from tests.serving.load.answers import essence, street
from tests.serving.load.footprint import Memory, footprint, settled, total
from tests.serving.load.offering import Pictures, ask, in_words
from tests.serving.load.standing import standing
from tis_ray.config import load_ensemble

pytestmark = [pytest.mark.ray, pytest.mark.slow]

REQUESTS = int(os.environ.get("TIS_RAY_LOAD_REQUESTS", "3000"))
EARLY, TOGETHER, GROWTH = REQUESTS // 10, 4, 0.05
SIZE_HW = (128, 192)


@pytest.fixture(scope="module")
def pictures(request, tmp_path_factory):
    """Sixteen pictures for a service of two members and three view servers."""
    ensemble = load_ensemble(write_ensemble(tmp_path_factory.mktemp("soak")))
    with standing(ensemble, request) as url:
        yield Pictures(url, [street(seed, SIZE_HW) for seed in range(16)], 30.0)


def test_answers_and_memory_after_thousands_of_requests_are_those_of_the_first(pictures):
    quiet = ask(pictures, count=len(pictures.contents), together=1)
    assert [fate.status for fate in quiet] == [200] * len(quiet)
    expected = [essence(fate.content) for fate in quiet]
    assert any(one["instances"] for one in expected)
    start = time.perf_counter()
    early = ask(pictures, count=EARLY - len(quiet), together=TOGETHER, first=len(quiet))
    store_early, memory_early = settled(), footprint()
    late = ask(pictures, count=REQUESTS - EARLY, together=TOGETHER, first=EARLY)
    store_late, memory_late = settled(), footprint()
    seconds = time.perf_counter() - start
    loaded = early + late
    print(
        f"{REQUESTS} requests, {TOGETHER} at a time, in {seconds:.0f} s: {in_words(loaded)}.\n\n"
        f"Object store {store_early:.2f} MB after {EARLY}, {store_late:.2f} MB after {REQUESTS}.\n\n"
        + table(memory_early, memory_late)
    )
    others = [fate.number for fate in loaded if fate.status != 200]
    assert others == []
    assert [fate.number for fate in loaded if essence(fate.content) != expected[fate.number % len(quiet)]] == []
    assert store_late <= (1 + GROWTH) * store_early + 1  # MB: what a single request may still hold
    assert memory_early.keys() == memory_late.keys()
    assert total(memory_late).own_mb <= (1 + GROWTH) * total(memory_early).own_mb


def table(early: dict[str, Memory], late: dict[str, Memory]) -> str:
    """MB of each kind of process after the first tenth of the requests and after all, and what that has grown by."""
    lines = [f"| process | resident after {EARLY}, MB | after {REQUESTS}, MB | growth |", "|---|---|---|---|"]
    for name, before in {**early, "all": total(early)}.items():
        after = total(late) if name == "all" else late.get(name, Memory(0, 0))
        lines.append(f"| {name} | {before.own_mb:.1f} | {after.own_mb:.1f} | {after.own_mb / before.own_mb - 1:+.1%} |")
    return "\n".join(lines)
