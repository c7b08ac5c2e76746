"""Whether the members can do what their roles ask of them."""

from collections.abc import Collection

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError


def check_roles(ensemble: Ensemble, maskless: Collection[str]) -> None:
    """Raise `ConfigError` where a member's role asks for masks and it is among the `maskless`, who predict none.

    Members of role both need none where no other has any, nor where others predict masks for all fused boxes.
    """
    fusion = ensemble.fusion
    for name, member in ensemble.members.items():
        if name in maskless and fusion.role(name) == "masks":
            raise ConfigError(
                f"fusion.members.{name}.role: expected a member that predicts masks, or role boxes; got masks for "
                f"{member.checkpoint}, whose recipe has no mask branch at test"
            )
    masked = [name for name in ensemble.members if name not in maskless and fusion.role(name) != "boxes"]
    if not masked and fusion.insists_on_second_pass:
        raise ConfigError("fusion.second_pass: expected a member that predicts masks; got true, and no member does")
    if fusion.second_pass or any(fusion.role(name) == "masks" for name in masked):
        return
    for name in ensemble.members:
        if masked and name in maskless and fusion.role(name) == "both":
            raise ConfigError(
                f"members.{name}: expected a member that predicts masks, as members.{masked[0]} does, or role boxes "
                f"under fusion.members.{name}; got one whose recipe has no mask branch at test"
            )
