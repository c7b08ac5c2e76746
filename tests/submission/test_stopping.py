"""Signals end a run as an error would."""

import signal
import threading
from collections.abc import Iterator

import pytest

from tis_ray.submission.stopping import terminable, unbroken


@pytest.fixture(autouse=True)
def _as_by_default() -> Iterator[None]:
    """The tests may run where a signal is ignored, under nohup for one."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_and_the_former_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, terminable():
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_within_a_block_that_is_not_to_be_broken_counts_at_its_end() -> None:
    done = []

    def work() -> None:
        with terminable(), unbroken():
            signal.raise_signal(signal.SIGTERM)
            done.append(1)

    with pytest.raises(SystemExit):
        work()
    assert done == [1]


def test_another_thread_than_the_main_one_sets_no_handler() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with terminable(), unbroken():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
