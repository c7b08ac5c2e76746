"""A plan for an ensemble on so many GPUs: replicas and shares of each deployment, for the groups that suit best.

The seconds of a deployment are the sum of its views', which run one after another; its memory is the model's, the
largest of its views' and what it keeps for a second pass. `filling.py` knows the most that given groups come to; which
groups there are is tried member by member, from three starting points, until no change makes it faster. Every replica
is a process that loads weights, so a throughput within 5% of the best will do for fewer of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.planning.costs import GIB, Costs, key_of, twins_of
from tis_ray.planning.filling import fill, least_gpus, longest_alone
from tis_ray.planning.grouping import Grouping, Groups, even_groups, named

CONTEXT_GIB = 0.75  # what each process takes of a GPU beside its tensors
_NEARLY = 0.95  # this part of the most that groups could come to is enough, for fewer replicas
_AS_FAST = 0.98  # groups that come to this part of the fastest are as fast, for a shorter wait
Group = Literal["auto", "member", "scale", "written"]
_AS_SOON = 1.2  # so much longer a wait is as short, for fewer deployments and replicas


@dataclass(frozen=True, slots=True)
class Placed:
    """A deployment in a plan.

    views:    names of its views without the member's
    seconds:  of one frame, on a GPU of its own
    gib:      what a replica takes of a GPU
    per_gpu:  how many of its replicas a GPU would hold; 1 / per_gpu is each one's share
    load:     part of its share that a replica is busy, at the plan's throughput
    """

    name: str
    views: tuple[str, ...]
    seconds: float
    gib: float
    replicas: int
    per_gpu: int
    load: float

    @property
    def num_gpus(self) -> float:
        """The share as Ray counts it: in ten-thousandths, and never more than it is."""
        return 1.0 if self.per_gpu == 1 else math.floor(10_000 / self.per_gpu) / 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to serve an ensemble: `grouping` has each member's views by deployment.

    throughput: frames a second when all are busy
    alone_s:    the most that a lone frame waits for its views, however its deployments lie on GPUs
    """

    grouping: Grouping
    placed: tuple[Placed, ...]
    throughput: float
    alone_s: float

    @property
    def gpus(self) -> float:
        """How many GPUs the shares sum up to."""
        return sum(one.replicas / one.per_gpu for one in self.placed)

    @property
    def num_replicas(self) -> int:
        return sum(one.replicas for one in self.placed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The plan, by which `group` its views are grouped, and plans for fixed groups: None where there is no room."""

    best: Plan
    group: Group
    others: dict[Group, Plan | None]


class Planner:
    """Plans for an ensemble whose views' costs are known.

    gpus:      whole GPUs; what the gateway and the fusion ask for goes off
    memory_gb: of each GPU, in 10^9 bytes

    Raises `ConfigError` naming a view that no GPU has the memory for, alone with its member's weights.
    """

    def __init__(self, ensemble: Ensemble, costs: Costs, *, gpus: int, memory_gb: float) -> None:
        self._ensemble = ensemble
        self._costs = costs
        self._gpus = gpus - math.ceil(_asked_beside(ensemble))
        self._asked = gpus
        self._memory_gib = memory_gb * 1e9 / GIB
        self._views = {name: tuple(twins) for name, twins in twins_of(ensemble).items()}
        self._tried: dict[tuple[tuple[str, Groups], ...], Plan | None] = {}
        self._check_memory()

    def compare(self, group: Group = "auto") -> Comparison:
        """The plan for views grouped so, or by `auto` the one that suits best of all that were tried.

        Raises `ConfigError` where there is no room for it: by `auto`, not even for one deployment of each member.
        """
        groupings = self._fixed()
        others = {key: self._plan(grouping) for key, grouping in groupings.items()}
        if group == "auto":
            for start in groupings.values():
                self._climb(start)
            best = self._best()
            group = next((key for key, plan in others.items() if plan and plan.grouping == best.grouping), "auto")
        else:
            best = others[group] or self._no_room(groupings[group])
        shown = {
            key: plan for key, plan in others.items() if key != "written" or groupings[key] not in _rest(groupings)
        }
        return Comparison(best, group, shown)

    def _fixed(self) -> dict[Group, Grouping]:
        return {
            "member": {name: (views,) for name, views in self._views.items()},
            "scale": {name: tuple((view,) for view in views) for name, views in self._views.items()},
            "written": self._as_written(),
        }

    def _best(self) -> Plan:
        plans = [plan for plan in self._tried.values() if plan is not None]
        if not plans:
            return self._no_room(self._fixed()["member"])
        fastest = max(plan.throughput for plan in plans)
        near = [plan for plan in plans if plan.throughput >= fastest * _AS_FAST]
        soon = min(plan.alone_s for plan in near) * _AS_SOON
        return min((plan for plan in near if plan.alone_s <= soon), key=_size)

    def _climb(self, start: Grouping) -> None:
        """Better groups of one member at a time, until none is."""
        grouping = start
        while True:
            better = max(self._neighbours(grouping), key=self._rank, default=grouping)
            if self._rank(better) <= self._rank(grouping):
                return
            grouping = better

    def _neighbours(self, grouping: Grouping) -> Iterator[Grouping]:
        for name, views in self._views.items():
            seconds = {view: self._costs.members[name].views[view].seconds for view in views}
            for number in range(1, len(views) + 1):
                yield {**grouping, name: even_groups(seconds, number)}

    def _rank(self, grouping: Grouping) -> tuple[float, float]:
        plan = self._plan(grouping)
        return (0.0, 0.0) if plan is None else (plan.throughput, -plan.alone_s)

    def _plan(self, grouping: Grouping) -> Plan | None:
        key = tuple(grouping.items())
        if key not in self._tried:
            self._tried[key] = self._made(grouping)
        return self._tried[key]

    def _made(self, grouping: Grouping) -> Plan | None:
        names, members, groups = zip(*self._deployments(grouping), strict=True)
        seconds = [self._seconds(member, group) for member, group in zip(members, groups, strict=True)]
        gib = [self._gib(name, member, group) for name, member, group in zip(names, members, groups, strict=True)]
        most = [math.floor(self._memory_gib / one) for one in gib]
        filling = fill(seconds, most, self._gpus, nearly=_NEARLY) if min(most) > 0 and self._gpus > 0 else None
        if filling is None:
            return None
        pace = filling.throughput(seconds)
        placed = tuple(
            Placed(name, group, cost, memory, count, each, pace * cost * each / count)
            for name, group, cost, memory, count, each in zip(
                names, groups, seconds, gib, filling.replicas, filling.per_gpu, strict=True
            )
        )
        return Plan(grouping, placed, pace, longest_alone(seconds, filling))

    def _deployments(self, grouping: Grouping) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Name, member and views of each."""
        for member, groups in grouping.items():
            names = {views[0]: name for name, views in named(groups, self._ensemble.members[member].groups).items()}
            for group in groups:
                yield f"{member}@{names.get(group[0], group[0])}", member, group

    def _seconds(self, member: str, group: Sequence[str]) -> float:
        return sum(self._costs.members[member].views[view].seconds for view in group)

    def _gib(self, name: str, member: str, group: Sequence[str]) -> float:
        costs = self._costs.members[member]
        largest = max(costs.views[view].gib for view in group)
        return CONTEXT_GIB + costs.weights_gib + largest + self._kept_gib(name, member)

    def _kept_gib(self, name: str, member: str) -> float:
        """What a replica keeps of pictures for a second pass."""
        role, fusion = self._ensemble.fusion.role(member), self._ensemble.fusion
        asked_twice = role == "masks" or (role == "both" and fusion.second_pass)
        return self._ensemble.replica(name).feature_bytes(on_gpu=True) / GIB if asked_twice else 0.0

    def _as_written(self) -> Grouping:
        found: dict[str, dict[str, list[str]]] = {name: {} for name in self._views}
        for name, views in self._ensemble.deployments.items():
            found[views[0].member][name] = list(dict.fromkeys(key_of(view) for view in views))
        return {
            member: tuple(sorted(map(tuple, groups.values()), key=lambda group: self._views[member].index(group[0])))
            for member, groups in found.items()
        }

    def _check_memory(self) -> None:
        for member, views in self._views.items():
            for view in views:
                self._check_fits(f"view {member}@{view}", self._gib(f"{member}@{view}", member, (view,)))

    def _check_fits(self, what: str, gib: float) -> None:
        if gib > self._memory_gib:
            raise ConfigError(
                f"{what}: expected at most {self._memory_gib:.2f} GiB, the memory of a GPU of "
                f"{self._memory_gib * GIB / 1e9:g} GB; it takes {gib:.2f} GiB with its model"
            )

    def _no_room(self, grouping: Grouping) -> NoReturn:
        gib = {name: self._gib(name, member, group) for name, member, group in self._deployments(grouping)}
        for name, one in gib.items():
            self._check_fits(f"deployment {name}", one)
        needed = least_gpus([math.floor(self._memory_gib / one) for one in gib.values()]) + self._asked - self._gpus
        raise ConfigError(
            f"--gpus: expected at least {needed}, for one replica of each of {len(gib)} deployments; got {self._asked}"
        )


def _rest(groupings: dict[Group, Grouping]) -> list[Grouping]:
    return [grouping for key, grouping in groupings.items() if key != "written"]


def _size(plan: Plan) -> tuple[float, ...]:
    return len(plan.placed), plan.num_replicas, plan.alone_s


def _asked_beside(ensemble: Ensemble) -> float:
    """GPUs that the gateway and the fusion ask for, which need none."""
    beside = [ensemble.replicas[name] for name in ("gateway", "fusion") if name in ensemble.replicas]
    return sum(replica.most * replica.num_gpus for replica in beside if replica.num_gpus != "auto")
