"""Plans for whole ensembles: they fit, they are no slower than any other, and the service reads them."""

import itertools
from itertools import product

import numpy as np
import pytest
import yaml

from tests.planning.made_costs import costs, ensemble
from tis_ray.config import Ensemble, dump_views
from tis_ray.errors import ConfigError
from tis_ray.planning.applied import fragment, planned
from tis_ray.planning.filling import Filling, fill, longest_alone
from tis_ray.planning.plan import Plan, Planner

THREE = {"r50@600": 0.1, "r50@800": 0.2, "r50@1200": 0.7}
TWO_MEMBERS = {**THREE, "x101@600": 0.3, "x101@1000": 0.9}


def compare(of: Ensemble, seconds: dict[str, float], *, gpus: int, memory_gb: float = 16.0, **cost: float):
    return Planner(of, costs(of, seconds=seconds, **cost), gpus=gpus, memory_gb=memory_gb).compare()


def partitions(items: list[str]):
    """All ways to put items into groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for found in partitions(rest):
        yield [[first], *found]
        for place in range(len(found)):
            yield [*found[:place], [first, *found[place]], *found[place + 1 :]]


@pytest.mark.parametrize("gpus", [1, 2, 3, 5])
@pytest.mark.parametrize("replicas_on_a_gpu", [1, 2, 4])
def test_no_way_to_group_the_views_of_small_ensembles_is_faster(gpus: int, replicas_on_a_gpu: int) -> None:
    """All partitions of the views are tried; a plan may give up 5% for fewer replicas, 2% for a shorter wait."""
    of = ensemble(r50=[600, 800, 1200], x101=[600, 1000])
    best = 0.0
    for groups in product(partitions(["r50@600", "r50@800", "r50@1200"]), partitions(["x101@600", "x101@1000"])):
        seconds = [sum(TWO_MEMBERS[view] for view in group) for group in itertools.chain(*groups)]
        filling = fill(seconds, [replicas_on_a_gpu] * len(seconds), gpus)
        best = max(best, filling.throughput(seconds) if filling else 0.0)
    memory_gb = replicas_on_a_gpu * 2.0 * 2**30 / 1e9 + 0.1  # 0.75 context, 0.25 weights, 1 view
    if best == 0:
        with pytest.raises(ConfigError, match=r"--gpus: expected at least 2, .*; got 1"):
            compare(of, TWO_MEMBERS, gpus=gpus, memory_gb=memory_gb)
        return
    found = compare(of, TWO_MEMBERS, gpus=gpus, memory_gb=memory_gb)
    assert 0.95 * 0.98 * best - 1e-9 <= found.best.throughput <= best + 1e-9
    assert found.best.gpus <= gpus + 1e-9
    for plan in filter(None, found.others.values()):
        assert plan.throughput <= found.best.throughput / 0.98 + 1e-9


def test_all_views_in_one_deployment_balance_and_one_for_each_scale_answers_a_lone_frame_sooner() -> None:
    found = compare(ensemble(r50=[600, 800, 1200]), THREE, gpus=4, memory_gb=2.2)
    whole, single = found.others["member"], found.others["scale"]
    assert whole is not None
    assert single is not None
    assert (whole.throughput, whole.alone_s) == (pytest.approx(4.0), pytest.approx(1.0))
    assert (single.throughput, single.alone_s) == (pytest.approx(2 / 0.7), pytest.approx(0.7))
    assert found.best.throughput == pytest.approx(4.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_service_reads_a_plan_and_its_shares_never_exceed_the_gpus(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = {name: sorted(rng.choice(2000, rng.integers(1, 6), replace=False).tolist()) for name in ("a", "b.c")}
    of = ensemble(**scales)
    seconds = {f"{name}@{scale}": float(rng.uniform(0.05, 1)) for name in scales for scale in scales[name]}
    gpus = int(rng.integers(2, 9))
    plan = compare(of, seconds, gpus=gpus, gib=float(rng.uniform(0.5, 6))).best
    written = yaml.safe_load(yaml.safe_dump(dump_views(planned(of, plan))))
    read = Ensemble.model_validate(written)
    assert read.views == of.views
    assert set(read.deployments) == {one.name for one in plan.placed}
    asked = [read.replica(name) for name in read.deployments]
    assert sum(one.num_replicas * one.num_gpus for one in asked) <= gpus
    for one in plan.placed:
        assert read.replica(one.name).num_replicas == one.replicas
        assert 1 / one.per_gpu - 1e-4 <= read.replica(one.name).num_gpus <= 1 / one.per_gpu
        assert {view.key.partition("@")[2] for view in read.deployments[one.name]} == set(one.views)
        assert one.load <= 1 + 1e-9
        assert one.gib * one.per_gpu <= 16e9 / 2**30
    assert max(one.load for one in plan.placed) == pytest.approx(1.0)
    pasted = yaml.safe_load(yaml.safe_dump(fragment(of, plan)))
    members = {name: {**content, **pasted["members"][name]} for name, content in dump_views(of)["members"].items()}
    merged = Ensemble.model_validate({"members": members, "replicas": pasted["replicas"]})
    assert merged.deployments == read.deployments
    assert {name: merged.replica(name) for name in merged.deployments} == {
        name: read.replica(name) for name in read.deployments
    }


def test_other_resources_of_deployments_stay_and_autoscaling_gives_way_to_a_number() -> None:
    of = Ensemble.model_validate(
        {
            "members": {"r50": {"checkpoint": "r50", "scales": [600, 800], "groups": {"low": [600, 800]}}},
            "replicas": {
                "gateway": {"num_cpus": 2, "num_gpus": 0},
                "default": {"num_cpus": 3, "autoscaling": {"max_replicas": 4}},
                "r50@low": {"num_cpus": 5, "feature_memory_mb": 100},
            },
        }
    )
    plan = compare(of, {"r50@600": 0.5, "r50@800": 0.5}, gpus=3, memory_gb=2.2).best
    read = planned(of, plan)
    assert read.replicas["gateway"] == of.replicas["gateway"]
    (name,) = read.deployments
    assert name == "r50@low"
    assert read.replicas[name].model_dump(exclude_defaults=True) == {
        "num_replicas": 3,
        "num_cpus": 5,
        "num_gpus": 1,
        "feature_memory_mb": 100,
    }


def test_what_the_gateway_and_the_fusion_ask_for_goes_off() -> None:
    of = ensemble(r50=[600]).model_copy()
    greedy = Ensemble.model_validate({**of.model_dump(), "replicas": {"fusion": {"num_gpus": 0.5}}})
    plan = compare(greedy, {"r50@600": 1.0}, gpus=3).best
    assert plan.gpus == pytest.approx(2)
    with pytest.raises(
        ConfigError, match=r"--gpus: expected at least 2, for one replica of each of . deployments; got 1"
    ):
        compare(greedy, {"r50@600": 1.0}, gpus=1)


def test_features_kept_for_a_second_pass_take_memory() -> None:
    content = ensemble(a=[600], b=[600]).model_dump()
    twice = Ensemble.model_validate(
        {**content, "fusion": {"members": {"b": {"role": "masks"}}}, "replicas": {"b@600": {"feature_memory_mb": 3072}}}
    )
    plan = compare(twice, {"a@600": 1.0, "b@600": 1.0}, gpus=2).best
    assert {one.name: one.gib for one in plan.placed} == {"a@600": pytest.approx(2.0), "b@600": pytest.approx(5.0)}


def test_a_view_that_fits_no_gpu_is_named() -> None:
    of = ensemble(r50=[600, 800])
    with pytest.raises(ConfigError, match=r"^view r50@600: expected at most 3\.73 GiB, .* 4 GB; it takes 9\.00 GiB"):
        compare(of, {"r50@600": 1.0, "r50@800": 1.0}, gpus=2, memory_gb=4, gib=8.0)


def test_a_deployment_that_keeps_more_features_than_a_gpu_holds_is_named() -> None:
    content = ensemble(r50=[600, 800]).model_dump()
    content["members"]["r50"]["groups"] = {"low": ["600", "800"]}
    of = Ensemble.model_validate(
        {**content, "fusion": {"second_pass": True}, "replicas": {"r50@low": {"feature_memory_mb": 16384}}}
    )
    planner = Planner(of, costs(of, seconds={"r50@600": 1.0, "r50@800": 1.0}), gpus=2, memory_gb=16)
    with pytest.raises(ConfigError, match=r"^deployment r50@low: expected at most 14\.90 GiB, .* 16 GB; .* 18\.00 GiB"):
        planner.compare("written")


def test_too_few_gpus_are_said_with_how_many_it_takes() -> None:
    of = ensemble(a=[600], b=[600], c=[600])
    with pytest.raises(
        ConfigError, match=r"^--gpus: expected at least 3, for one replica of each of 3 deployments; got 2$"
    ):
        compare(of, dict.fromkeys(["a@600", "b@600", "c@600"], 1.0), gpus=2, memory_gb=3)


def test_a_lone_frame_waits_for_the_worst_that_may_share_its_gpu() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        per_gpu = tuple(rng.choice([1, 2, 4], 5).tolist())
        seconds = rng.uniform(0.1, 1, 5).tolist()
        worst = max(
            sum(seconds[i] for i in some)
            for size in range(1, 6)
            for some in itertools.combinations(range(5), size)
            if sum(1 / per_gpu[i] for i in some) <= 1
        )
        assert longest_alone(seconds, Filling((1,) * 5, per_gpu)) == pytest.approx(worst)


def test_shares_are_counted_as_ray_does() -> None:
    of = ensemble(a=[600], b=[600])
    plan: Plan = compare(of, {"a@600": 1.0, "b@600": 2.0}, gpus=1, memory_gb=7).best
    assert {one.name: (one.replicas, one.num_gpus) for one in plan.placed} == {
        "a@600": (1, 0.3333),
        "b@600": (2, 0.3333),
    }


def test_groups_may_be_told() -> None:
    of = ensemble(r50=[600, 800, 1200])
    planner = Planner(of, costs(of, seconds=THREE), gpus=4, memory_gb=2.2)
    for group, number in (("member", 1), ("scale", 3), ("written", 3)):
        found = planner.compare(group)
        assert (found.group, len(found.best.placed)) == (group, number)
    with pytest.raises(ConfigError, match=r"^--gpus: expected at least 3, .* each of 3 deployments; got 2$"):
        Planner(of, costs(of, seconds=THREE), gpus=2, memory_gb=2.2).compare("scale")
