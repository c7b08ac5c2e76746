"""Menu of mask policies: which mask a fused instance gets, from all that the views predicted.

Each module exports `select`, a `Select` once its options are bound; its keyword-only arguments, all with
defaults, are the options a config may set.
"""

from typing import Protocol

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances


class Select(Protocol):
    """Gives the fused `instances` their masks; returns as many, in the same order, all else unchanged.

    `pool.masked` are the instances whose masks may speak, as they were before the first rule; instance i came from
    `pool.views[instances.source[i]]`. An instance for which there is no mask is marked as having none
    (`masks.present`): no policy invents one. `masks` stays None where nothing has a mask. Masks that were predicted for
    the fused boxes themselves are for the instances that `pool.predicted_for` names and for no others; `candidates`
    sees to that.
    """

    def __call__(self, instances: Instances, pool: Pool) -> Instances: ...
