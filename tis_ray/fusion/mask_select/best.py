"""Each fused instance keeps the mask of the detection that its box came from: the best source's own mask."""

from collections.abc import Sequence

from tis_ray.instances import Instances
from tis_ray.views import SizeHW, View


def select(
    instances: Instances,
    pool: Instances,  # noqa: ARG001
    sources: Sequence[View],  # noqa: ARG001
    image_hw: SizeHW,  # noqa: ARG001
) -> Instances:
    """The instances as they are: rules carry the masks of what they keep."""
    return instances
