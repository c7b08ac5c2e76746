"""Menu of mask policies: which mask a fused instance gets, from all that the views predicted.

Each module exports `select`, a `Select` once its options are bound; its keyword-only arguments, all with
defaults, are the options a config may set.
"""

from collections.abc import Sequence
from typing import Protocol

from tis_ray.instances import Instances
from tis_ray.views import SizeHW, View


class Select(Protocol):
    """Gives the fused `instances` their masks; returns as many, in the same order, all else unchanged.

    `pool` is the union of all views before the first rule, with its masks. `sources` are the views by number,
    those that failed included: instance i came from `sources[instances.source[i]]`; a view and the image's
    size tell at which size in network pixels a mask was predicted. Neither has masks where no view had any.
    """

    def __call__(
        self, instances: Instances, pool: Instances, sources: Sequence[View], image_hw: SizeHW
    ) -> Instances: ...
