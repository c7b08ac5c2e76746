"""Features kept by bytes and by age."""

import threading

import pytest
import torch

from tis_ray.inference.feature_memory import FeatureMemory, Remembered


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def features(nbytes: int) -> Remembered:
    return Remembered({"0": torch.zeros(nbytes, dtype=torch.uint8)}, [(8, 8)])


def memory(max_bytes: int = 100, max_age_s: float = 10.0) -> tuple[FeatureMemory, Clock]:
    clock = Clock()
    return FeatureMemory(max_bytes, max_age_s, clock=clock), clock


def test_what_was_put_is_there_for_its_key_and_group_alone() -> None:
    held, _ = memory()
    one = features(10)
    held.put("a", ("x", 1), one)
    assert held.get("a", ("x", 1)) is one
    assert held.get("a", ("x", 2)) is None
    assert held.get("b", ("x", 1)) is None
    assert held.holds("a")
    assert not held.holds("b")


def test_the_least_recently_used_leaves_first() -> None:
    held, _ = memory(max_bytes=30)
    for key in "abc":
        held.put(key, 0, features(10))
    held.get("a", 0)
    held.put("d", 0, features(10))
    assert [key for key in "abcd" if held.holds(key)] == ["a", "c", "d"]
    held.put("e", 0, features(20))
    assert [key for key in "abcde" if held.holds(key)] == ["d", "e"]
    assert held.nbytes == 30


def test_as_much_as_may_be_held_is_held_and_more_than_that_is_not() -> None:
    held, _ = memory(max_bytes=30)
    held.put("a", 0, features(30))
    assert held.nbytes == 30
    held.put("b", 0, features(31))
    assert held.holds("a")
    assert not held.holds("b")
    nothing, _ = memory(max_bytes=0)
    nothing.put("a", 0, features(1))
    assert nothing.nbytes == 0


def test_what_is_put_again_counts_once() -> None:
    held, _ = memory()
    held.put("a", 0, features(40))
    newer = features(50)
    held.put("a", 0, newer)
    assert held.nbytes == 50
    assert held.get("a", 0) is newer


def test_a_piece_of_memory_that_several_maps_share_counts_once() -> None:
    whole = torch.zeros(8, 4, dtype=torch.float16)
    shared = Remembered({"0": whole, "1": whole[:4], "pool": whole.T}, [(8, 8)])
    assert shared.nbytes == 8 * 4 * 2
    held, _ = memory()
    held.put("a", 0, shared)
    assert held.nbytes == 64


def test_nothing_grows_old_however_often_it_is_used() -> None:
    held, clock = memory(max_age_s=10)
    held.put("a", 0, features(10))
    clock.now += 9
    held.put("b", 0, features(10))
    assert held.get("a", 0) is not None
    clock.now += 1
    assert held.get("a", 0) is None
    assert held.nbytes == 10
    clock.now += 9
    assert held.nbytes == 0


def test_a_picture_is_forgotten_with_all_of_its_groups() -> None:
    held, _ = memory()
    for group in range(3):
        held.put("a", group, features(10))
    held.put("b", 0, features(10))
    held.forget("a")
    held.forget("a")
    assert not held.holds("a")
    assert held.nbytes == 10


@pytest.mark.parametrize("max_bytes", [0, 25, 1000])
def test_several_threads_at_once_leave_the_bytes_right(max_bytes: int) -> None:
    held, _ = memory(max_bytes=max_bytes)

    def work(name: str) -> None:
        for i in range(200):
            held.put(name, i % 5, features(1 + i % 9))
            held.get(name, (i + 1) % 5)
            if i % 50 == 49:
                held.forget(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held.nbytes == 0  # each forgot its own last of all
    held.put("z", 0, features(5))
    assert held.nbytes == min(max_bytes, 5)
