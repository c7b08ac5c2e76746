"""What deployments ask of the cluster, by Serve's own schema: autoscaling that settles, updates that find room."""

import warnings
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import pytest
from ray.serve._private.config import DeploymentConfig
from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors
from ray.serve.config import AutoscalingConfig

from tis_ray.config import Autoscaling, Ensemble, Replica
from tis_ray.serving.resources import Resources, one_more_fits


def ensemble(**replicas: dict[str, Any]) -> Ensemble:
    members = {"a": {"checkpoint": "a", "scales": [64, 96]}}
    return Ensemble.model_validate({"members": members, "replicas": replicas})


def options(of: Ensemble, name: str = "a@64", **cluster: float) -> dict[str, Any]:
    return Resources.of(of, cluster).options(of, of.replica(name), on_gpu=True)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"min_replicas": 2, "max_replicas": 5, "initial_replicas": 3},
        {"max_replicas": 4, "look_back_period_s": 60, "upscale_delay_s": 90, "downscaling_factor": 0.2},
    ],
)
def test_serve_takes_every_key_of_autoscaling_as_it_is_meant(content: dict[str, Any]) -> None:
    section = Autoscaling.model_validate(content)
    written = options(ensemble(default={"autoscaling": content}))["autoscaling_config"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = AutoscalingConfig.model_validate(written)
    assert written.keys() <= AutoscalingConfig.model_fields.keys()
    for key, value in section:
        assert getattr(theirs, key) == value
    assert theirs.get_downscaling_factor() < 1


def scaled(config: AutoscalingConfig, load: Callable[[float], float], *, until_s: float) -> list[int]:
    """Numbers of replicas, one after the other, that Serve's own rules make of so many requests at each second."""
    current, state, changes, seen = config.min_replicas, {}, [config.min_replicas], []
    for second in range(int(until_s)):
        seen.append(load(second))
        window = seen[-int(config.look_back_period_s) :]
        wanted = sum(window) / len(window) / config.target_ongoing_requests
        wanted = _apply_scaling_factors(wanted, current, config)
        wanted = min(max(wanted, config.min_replicas), config.max_replicas)
        decided, state = _apply_delay_logic(wanted, current, config, state, _now=float(second))
        if decided != current:
            current = decided
            changes.append(current)
    return changes


def bursts(second: float) -> float:
    """Thirty seconds of work, ninety of rest."""
    return 12.0 if second % 120 < 30 else 0.0


def test_bursts_do_not_make_replicas_come_and_go() -> None:
    ours = AutoscalingConfig(**Autoscaling(max_replicas=6).model_dump(exclude_none=True))
    hasty = AutoscalingConfig(max_replicas=6, look_back_period_s=20, upscale_delay_s=1, downscale_delay_s=1)
    assert len(scaled(hasty, bursts, until_s=3600)) > 100
    changes = scaled(ours, bursts, until_s=3600)
    assert len(changes) <= 3
    assert changes == sorted(changes)


def test_lasting_work_gets_replicas_and_a_lasting_rest_gives_them_back_by_halves() -> None:
    ours = AutoscalingConfig(**Autoscaling(max_replicas=8).model_dump(exclude_none=True))
    changes = scaled(ours, lambda second: 16.0 if second < 600 else 0.0, until_s=6000)
    rise, fall = changes[: changes.index(8) + 1], changes[changes.index(8) :]
    assert rise == sorted(rise)
    assert fall == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("replicas", "cluster", "percent"),
    [
        pytest.param({}, {}, 0, id="no cluster known"),
        pytest.param({}, {"CPU": 5}, 25, id="a CPU left"),
        pytest.param({}, {"CPU": 4}, 0, id="all CPUs taken"),
        pytest.param({"default": {"num_gpus": 1}}, {"CPU": 9, "GPU": 2}, 0, id="all GPUs taken"),
        pytest.param({"default": {"num_gpus": 1}}, {"CPU": 9, "GPU": 3}, 25, id="a GPU left"),
        pytest.param({"default": {"num_gpus": 0.3333}}, {"CPU": 9, "GPU": 1}, 25, id="a third of a GPU left"),
        pytest.param({}, {"CPU": 9, "GPU": 2}, 0, id="auto leaves no GPU"),
        pytest.param({"default": {"num_gpus": 0.6}}, {"CPU": 9, "GPU": 2}, 0, id="what is left lies on two GPUs"),
        pytest.param({"fusion": {"num_cpus": 4}}, {"CPU": 7}, 0, id="the fusion takes the CPUs"),
        pytest.param({"default": {"max_surge_percent": 100}}, {}, 100, id="as written"),
        pytest.param({"default": {"autoscaling": {"max_replicas": 2}}}, {"CPU": 6}, 0, id="room for the most replicas"),
    ],
)
def test_an_update_starts_a_replacement_first_where_the_cluster_has_room(replicas, cluster, percent) -> None:
    found = options(ensemble(**replicas), **cluster)
    assert found["max_surge_percent"] == percent


def placements(asked: list[float], gpus: int) -> set[tuple[float, ...]]:
    """What may be left of each GPU, in thousandths, however whole replicas and shares lie on them."""
    states = {(1000,) * gpus}
    for one in asked:
        need, found = round(one * 1000), set()
        for free in states:
            if one >= 1:
                whole = [place for place, room in enumerate(free) if room == 1000][: int(one)]
                if len(whole) == one:
                    found.add(tuple(sorted(0 if place in whole else room for place, room in enumerate(free))))
                continue
            for place, room in enumerate(free):
                if room >= need:
                    found.add(tuple(sorted([*free[:place], room - need, *free[place + 1 :]])))
        states = found
    return states


@pytest.mark.parametrize("gpus", [1, 2, 3])
@pytest.mark.parametrize("shares", [(1,), (0.5,), (0.333,), (1, 0.5), (0.5, 0.25), (1, 2), (0.5, 0.333), (0.4, 0.25)])
def test_one_more_fits_only_where_it_does_however_the_others_lie(shares: tuple[float, ...], gpus: int) -> None:
    told = set()
    for number in range(3 * gpus + 1):
        for asked in combinations_with_replacement(shares, number):
            states = placements(list(asked), gpus)
            for one in shares if states else ():
                need = round(one * 1000)
                always = all(
                    sum(room == 1000 for room in free) >= one if one >= 1 else any(room >= need for room in free)
                    for free in states
                )
                told.add(one_more_fits(one, asked, gpus))
                assert always or not one_more_fits(one, asked, gpus)
                if len(shares) == 1:
                    assert one_more_fits(one, asked, gpus) == always
    assert told == {True, False}


def test_the_light_replicas_are_updated_so_even_though_no_gpu_is_free() -> None:
    of = ensemble(default={"num_gpus": 1})
    resources = Resources.of(of, {"CPU": 9, "GPU": 2})
    assert resources.options(of, of.replica("a@64"), on_gpu=True)["max_surge_percent"] == 0
    assert resources.options(of, Replica(), on_gpu=False)["max_surge_percent"] == 25


def test_serve_takes_what_is_said_of_updates() -> None:
    found = options(ensemble(default={"rolling_update_percentage": 0.5, "max_surge_percent": 30}))
    config = DeploymentConfig(
        rolling_update_percentage=found["rolling_update_percentage"], max_surge_percent=found["max_surge_percent"]
    )
    assert (config.rolling_update_percentage, config.max_surge_percent) == (0.5, 30)


def test_the_first_number_of_replicas_is_serves_own_where_none_is_written() -> None:
    written = options(ensemble(default={"autoscaling": {"min_replicas": 2, "max_replicas": 3}}))
    assert "initial_replicas" not in written["autoscaling_config"]
    assert "num_replicas" not in written
