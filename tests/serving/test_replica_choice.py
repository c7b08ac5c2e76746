"""Which replica a call goes to, without Ray: what it names if that is there, else any two."""

from types import SimpleNamespace

import pytest

from tis_ray.serving.messages import Kept
from tis_ray.serving.replica_choice import keeper_of, two_of

REPLICAS = [SimpleNamespace(replica_id=SimpleNamespace(unique_id=name)) for name in ("a", "b", "c")]


def names(replicas) -> list[str]:
    return [one.replica_id.unique_id for one in replicas]


@pytest.mark.parametrize(
    ("arguments", "waited_s", "expected"),
    [
        pytest.param({"kept": Kept("key", "b"), "deadline_s": 8.0}, 0.0, ["b"], id="it is there"),
        pytest.param({"kept": Kept("key", "b"), "deadline_s": 8.0}, 1.9, ["b"], id="it has been full for a while"),
        pytest.param({"kept": Kept("key", "b"), "deadline_s": 8.0}, 2.1, [], id="it has been full for too long"),
        pytest.param({"kept": Kept("key", "z"), "deadline_s": 8.0}, 0.0, [], id="it is gone"),
        pytest.param({"deadline_s": 8.0}, 0.0, [], id="the first pass names none"),
    ],
)
def test_a_call_goes_to_the_replica_that_keeps_its_features(arguments, waited_s, expected):
    assert names(keeper_of(REPLICAS, arguments, waited_s=waited_s)) == expected


def test_any_two_others_are_asked_how_busy_they_are():
    seen = {frozenset(names(two_of(REPLICAS))) for _ in range(200)}
    assert seen == {frozenset("ab"), frozenset("ac"), frozenset("bc")}
    assert names(two_of(REPLICAS[:1])) == ["a"]
    assert two_of([]) == []
