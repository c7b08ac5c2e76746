"""The ensemble: members and their views, fusion, limits, and what each deployment of the service gets."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tis_ray.config.fusion import FusionSection
from tis_ray.config.inference import Inference
from tis_ray.config.member import NAME_CHARACTERS, Member
from tis_ray.config.section import Section
from tis_ray.config.service import Auth, Limits, Quorum, Replica
from tis_ray.views import View


def _check_auth(value: Any) -> Any:
    if isinstance(value, str) and value != "none":
        raise ValueError("expected a tokens_file, or 'none'")
    return value


class Ensemble(Section):
    """Members, their views, the fusion of those, and what each deployment of the service gets.

    `replicas` is keyed by deployment name (`gateway`, `fusion`, and `member@scale`, `member@scale.crop` or
    `member@group` for view servers); `default` serves the view servers that are not named.
    """

    members: dict[str, Member] = Field(min_length=1)
    fusion: FusionSection = FusionSection()
    quorum: Quorum = Quorum()
    limits: Limits = Limits()
    inference: Inference = Inference()
    replicas: dict[str, Replica] = Field(default_factory=dict)
    auth: Annotated[Auth | Literal["none"] | None, BeforeValidator(_check_auth)] = None

    @field_validator("fusion")
    @classmethod
    def _fit_fusion(cls, fusion: FusionSection, info: ValidationInfo) -> FusionSection:
        members: dict[str, Member] = info.data.get("members", {})  # not there where they are wrong themselves
        return fusion.fitted({scale for member in members.values() for scale in member.scales})

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.members:
            if not name or not set(name) <= NAME_CHARACTERS:
                raise ValueError(f"members.{name}: expected a name of letters, digits, '_', '-' and '.'")
        keys = {view.key for view in self.views}
        keys |= {key[key.index("@") :] for key in keys}
        for name in self.fusion.members:
            if name not in self.members:
                raise ValueError(f"fusion.members.{name}: expected one of {', '.join(sorted(self.members))}")
        for key in self.fusion.ranges:
            if key not in keys:
                raise ValueError(f"fusion.ranges.{key}: expected one of {', '.join(sorted(keys))}")
        known = {"default", "gateway", "fusion", *self.deployments}
        for key in self.replicas:
            if key not in known:
                raise ValueError(f"replicas.{key}: expected one of {', '.join(sorted(known))}")
        return self

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        roles = {self.fusion.role(name) for name in self.members}
        if roles == {"masks"}:
            raise ValueError("fusion.members: expected a member whose boxes count; got role masks for all")
        if roles == {"boxes"} and self.fusion.insists_on_second_pass:
            raise ValueError("fusion.second_pass: expected a member whose masks count; got role boxes for all")
        if "both" in roles and self.fusion.second_pass and any(rule.name == "mask_nms" for rule in self.fusion.rules):
            raise ValueError(
                "fusion.second_pass: expected false beside the rule mask_nms, which goes by the masks that members "
                "predict on their own boxes; got true"
            )
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """Every view of every member, sorted: the order in which fusion numbers its sources.

        A crop or a grid gives way where any of the others, of any member, looks across its edges.
        """
        views = [view for name, member in self.members.items() for view in member.views(name)]
        looks = {View("", 1, crop=view.crop, tile=view.tile) for view in views}
        given = (replace(view, gives_way=any(look.looks_across(view) for look in looks)) for view in views)
        return tuple(sorted(given))

    @property
    def deployments(self) -> dict[str, tuple[View, ...]]:
        """The view servers by name, sorted, and the views that each runs."""
        found: dict[str, tuple[View, ...]] = {}
        for view in self.views:
            name = self.members[view.member].deployment(view)
            found[name] = (*found.get(name, ()), view)
        return dict(sorted(found.items()))

    def located_in(self, folder: Path) -> Self:
        """The same ensemble with absolute paths; relative ones start at `folder`."""
        members = {
            name: member.model_copy(update={"checkpoint": (folder / member.checkpoint).resolve()})
            for name, member in self.members.items()
        }
        auth = self.auth
        if isinstance(auth, Auth):
            auth = auth.model_copy(update={"tokens_file": (folder / auth.tokens_file).resolve()})
        inference = self.inference
        if inference.compile_cache is not None:
            inference = inference.model_copy(update={"compile_cache": (folder / inference.compile_cache).resolve()})
        return self.model_copy(update={"members": members, "auth": auth, "inference": inference})

    def replica(self, deployment: str) -> Replica:
        """Resources of a view server: its own entry, else `default`."""
        return self.replicas.get(deployment, self.replicas.get("default", Replica()))
