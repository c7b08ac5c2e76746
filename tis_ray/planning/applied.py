"""An ensemble with a plan's groups and replicas: as values, and as what a file says of them."""

from typing import Any

from tis_ray.config import Ensemble
from tis_ray.planning.grouping import named
from tis_ray.planning.plan import Plan


def planned(ensemble: Ensemble, plan: Plan) -> Ensemble:
    """The ensemble with the groups and replicas of a plan; of a deployment's other resources nothing changes."""
    members = {
        name: member.model_copy(
            update={"groups": {key: tuple(views) for key, views in named(plan.grouping[name], member.groups).items()}}
        )
        for name, member in ensemble.members.items()
    }
    kept = {name: ensemble.replicas[name] for name in ("gateway", "fusion") if name in ensemble.replicas}
    servers = {
        one.name: ensemble.replica(one.name).model_copy(
            update={"num_replicas": one.replicas, "num_gpus": one.num_gpus, "autoscaling": None}
        )
        for one in plan.placed
    }
    return ensemble.model_copy(update={"members": members, "replicas": {**kept, **servers}})


def fragment(ensemble: Ensemble, plan: Plan) -> dict[str, Any]:
    """What a plan changes in an ensemble's file: each member's `groups`, and `replicas`."""
    changed = planned(ensemble, plan)
    groups = {
        name: {"groups": {group: [_number(view) for view in views] for group, views in member.groups.items()}}
        for name, member in changed.members.items()
    }
    replicas = {
        name: {"num_replicas": replica.num_replicas, **replica.model_dump(mode="json", exclude_defaults=True)}
        for name, replica in changed.replicas.items()
    }
    return {"members": groups, "replicas": replicas}


def _number(view: str) -> int | str:
    """A scale as a person would write it."""
    return int(view) if view.isdecimal() else view
