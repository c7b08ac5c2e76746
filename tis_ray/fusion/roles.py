"""Whether the members can do what their roles ask of them."""

from collections.abc import Collection

from tis_ray.config import Ensemble, FusionSection
from tis_ray.config.fusion import FusionMember
from tis_ray.errors import ConfigError


def check_roles(ensemble: Ensemble, maskless: Collection[str]) -> None:
    """Raise `ConfigError` where a member's role asks for masks and it is among the `maskless`, who predict none.

    Members of role both need none as long as no other has any, or where others predict masks for all fused boxes.
    """
    roles = {name: ensemble.fusion.members.get(name, FusionMember()).role for name in ensemble.members}
    for name, role in roles.items():
        if role == "masks" and name in maskless:
            raise ConfigError(
                f"fusion.members.{name}.role: expected boxes, or a member that predicts masks; got masks, and the "
                f"recipe in {ensemble.members[name].checkpoint} has no mask branch at test"
            )
    if _asked_for_second_pass(ensemble.fusion) and all(
        role == "boxes" or name in maskless for name, role in roles.items()
    ):
        raise ConfigError(
            "fusion.second_pass: expected false, or some member that predicts masks; got true, and none does"
        )
    if "masks" in roles.values() or ensemble.fusion.second_pass:
        return
    both = [name for name, role in roles.items() if role == "both"]
    masked = [name for name in both if name not in maskless]
    for name in both:
        if name in maskless and masked:
            raise ConfigError(
                f"members.{name}: expected a member that predicts masks, as members.{masked[0]} does, or "
                f"fusion.members.{name}.role boxes; got one whose recipe has no mask branch at test"
            )


def _asked_for_second_pass(section: FusionSection) -> bool:
    """Whether a second pass was written, rather than brought along by a preset for those who have masks."""
    return section.second_pass and not (section.preset and FusionSection(preset=section.preset).second_pass)
