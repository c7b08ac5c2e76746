"""Ensembles whose checkpoints need not exist, and costs made up for them."""

from tis_ray.config import Ensemble
from tis_ray.planning.costs import Costs, MemberCosts, ViewCost, twins_of


def ensemble(**members: list[int]) -> Ensemble:
    """Members by name with their scales, each mirrored too."""
    return Ensemble.model_validate(
        {"members": {name: {"checkpoint": name, "scales": scales} for name, scales in members.items()}}
    )


def costs(of: Ensemble, *, seconds: dict[str, float], gib: float = 1.0, weights_gib: float = 0.25) -> Costs:
    """Every view by `member@scale` at its `seconds`, all of one memory."""
    members = {
        name: MemberCosts(
            weights_gib=weights_gib,
            views={key: ViewCost(seconds=seconds[f"{name}@{key}"], gib=gib) for key in views},
        )
        for name, views in twins_of(of).items()
    }
    return Costs(device="a GPU", image_size="640x480", seconds="measured", memory="measured", members=members)
