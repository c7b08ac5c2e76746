"""Each fused instance keeps the mask of the detection that its box came from: the best source's own mask."""

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances


def select(instances: Instances, pool: Pool) -> Instances:  # noqa: ARG001
    """The instances as they are: rules carry the masks of what they keep."""
    return instances
