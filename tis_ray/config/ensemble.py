"""The ensemble: members and their views, fusion, limits, and what each deployment of the service gets."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tis_ray.config.fusion import FusionSection
from tis_ray.config.member import NAME_CHARACTERS, Member
from tis_ray.config.section import Section
from tis_ray.config.service import Limits, Replica
from tis_ray.views import View


class Ensemble(Section):
    """Members, their views, the fusion of those, and what each deployment of the service gets.

    `replicas` is keyed by deployment name (`gateway`, `fusion`, `member@scale`); `default` serves the view
    servers that are not named.
    """

    members: dict[str, Member] = Field(min_length=1)
    fusion: FusionSection = FusionSection()
    limits: Limits = Limits()
    replicas: dict[str, Replica] = Field(default_factory=dict)
    auth: Literal["none"] | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.members:
            if not name or not set(name) <= NAME_CHARACTERS:
                raise ValueError(f"members.{name}: expected a name of letters, digits, '_', '-' and '.'")
        keys = {view.key for view in self.views}
        keys |= {key[key.index("@") :] for key in keys}
        for key in self.fusion.ranges:
            if key not in keys:
                raise ValueError(f"fusion.ranges.{key}: expected one of {', '.join(sorted(keys))}")
        known = {"default", "gateway", "fusion", *self.deployments}
        for key in self.replicas:
            if key not in known:
                raise ValueError(f"replicas.{key}: expected one of {', '.join(sorted(known))}")
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """Every view of every member, sorted: the order in which fusion numbers its sources."""
        return tuple(sorted(view for name, member in self.members.items() for view in member.views(name)))

    @property
    def deployments(self) -> dict[str, tuple[View, ...]]:
        """The view servers by name, sorted, and the views that each runs."""
        found: dict[str, tuple[View, ...]] = {}
        for view in self.views:
            name = self.members[view.member].deployment(view)
            found[name] = (*found.get(name, ()), view)
        return dict(sorted(found.items()))

    def replica(self, deployment: str) -> Replica:
        """Resources of a view server: its own entry, else `default`."""
        return self.replicas.get(deployment, self.replicas.get("default", Replica()))
