"""Replicas for the most frames a second, against everything that could be done on small cases."""

import itertools
import math

import numpy as np
import pytest

from tis_ray.planning.filling import Filling, chains, fill, least_gpus


def everything(seconds: list[float], most_per_gpu: list[int], gpus: int) -> float:
    """The best throughput of all plans whose shares are of one chain; 0 where there is none."""
    best = 0.0
    shares = [range(1, most + 1) for most in most_per_gpu]
    for per_gpu in itertools.product(*shares):
        ordered = sorted(set(per_gpu))
        if any(large % small for small, large in itertools.pairwise(ordered)):
            continue
        for counts in itertools.product(*(range(1, gpus * each + 1) for each in per_gpu)):
            if sum(n / k for n, k in zip(counts, per_gpu, strict=True)) <= gpus + 1e-9:
                pace = min(n / (k * s) for n, k, s in zip(counts, per_gpu, seconds, strict=True))
                best = max(best, pace)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_nothing_on_so_many_gpus_is_faster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number, gpus = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    seconds = rng.choice([0.25, 0.5, 1.0, 1.5, 0.37, 2.9], number).tolist()
    most = rng.integers(1, 5, number).tolist()
    found = fill(seconds, most, gpus)
    best = everything(seconds, most, gpus)
    if found is None:
        assert best == 0
        assert least_gpus(most) > gpus
        return
    assert found.throughput(seconds) == pytest.approx(best)
    assert found.gpus <= gpus + 1e-9
    assert least_gpus(most) <= gpus
    assert all(1 <= k <= m for k, m in zip(found.per_gpu, most, strict=True))
    assert all(n >= 1 for n in found.replicas)


def test_whole_gpus_go_where_the_work_is() -> None:
    assert fill([1.0, 2.0, 3.0], [1, 1, 1], 6) == Filling((1, 2, 3), (1, 1, 1))


def test_no_replica_is_taken_that_makes_nothing_faster() -> None:
    # A third replica of the second would be of use with another of the first alone.
    assert fill([1.0, 1.0], [1, 1], 3) == Filling((1, 1), (1, 1))


def test_one_deployment_is_a_whole_replica_on_each_gpu_rather_than_many_small_ones() -> None:
    assert fill([0.4], [8], 3) == Filling((3,), (1,))


def test_shares_of_a_gpu_balance_what_whole_ones_cannot() -> None:
    found = fill([1.0, 2.0], [4, 4], 1)
    assert found == Filling((1, 2), (3, 3))
    assert found.throughput([1.0, 2.0]) == pytest.approx(1 / 3)


def test_ten_small_deployments_share_one_gpu() -> None:
    found = fill([0.1] * 10, [12] * 10, 1)
    assert found is not None
    assert found.throughput([0.1] * 10) == pytest.approx(1.0)


def test_too_few_gpus_is_no_plan() -> None:
    assert fill([1.0, 1.0], [1, 1], 1) is None
    assert least_gpus([1, 1]) == 2
    assert least_gpus([2, 2, 4, 4]) == 2
    assert least_gpus([3, 3, 3]) == 1


@pytest.mark.parametrize("chain", chains(12), ids=str)
@pytest.mark.parametrize("gpus", [1, 2, 3])
def test_shares_of_a_chain_fit_in_whatever_order_they_come(chain: tuple[int, ...], gpus: int) -> None:
    """As Ray places them on a node, on the fullest GPU with room: all states that can come of it are tried."""
    shares = [chain[-1] // each for each in chain]
    seen, open_ = set(), [(chain[-1],) * gpus]
    while open_:
        free = open_.pop()
        if free in seen:
            continue
        seen.add(free)
        for share in shares:
            if share <= sum(free):
                fullest = min((room for room in free if room >= share), default=None)
                assert fullest is not None, (free, share)
                rest = list(free)
                rest.remove(fullest)
                open_.append(tuple(sorted([*rest, fullest - share])))


def test_chains_are_all_that_there_are() -> None:
    wanted = {(1,), (1, 2), (1, 3), (1, 5), (1, 7), (1, 2, 4), (1, 2, 6), (1, 3, 6), (1, 2, 4, 8)}
    assert set(chains(8)) == wanted
    assert len(chains(32)) == len(set(chains(32)))
    assert all(math.gcd(a, b) == a for chain in chains(32) for a, b in itertools.pairwise(chain))


@pytest.mark.parametrize("seed", range(10))
def test_a_little_less_throughput_may_take_far_fewer_replicas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds, most = rng.uniform(0.1, 1, 3).tolist(), [12, 12, 12]
    best, enough = fill(seconds, most, 8), fill(seconds, most, 8, nearly=0.9)
    assert best is not None
    assert enough is not None
    assert enough.throughput(seconds) >= 0.9 * best.throughput(seconds)
    assert sum(enough.replicas) <= sum(best.replicas)
