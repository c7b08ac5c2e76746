"""What the members have to say in the fusion: all of their views together, within the sizes that each may speak for."""

from collections.abc import Mapping

from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.ranges import within
from tis_ray.instances import Instances
from tis_ray.views import SizeHW, View


def by_member(found: Mapping[View, Instances], fuser: Fuser, *, image_hw: SizeHW) -> dict[str, Instances]:
    """The boxes that each member found in an image, with scores as they came; a view's number is their `source`.

    Left out is what the fusion leaves out: sizes that a view may not speak for.
    """
    views = sorted(found)
    members: dict[str, list[Instances]] = {view.member: [] for view in views}
    for number, (view, interval) in enumerate(zip(views, fuser.intervals(views, image_hw=image_hw), strict=True)):
        members[view.member].append(within(found[view].without_masks(), interval).from_view(number))
    return {name: Instances.concatenate(parts) for name, parts in members.items()}
