"""Menu of merge rules: how boxes that may show the same object become one answer.

Each module exports `merge`, a `Merge` once its options are bound; its keyword-only arguments, all with
defaults, are the options a config may set. A rule
- takes instances in any order and returns them by descending score, equal scores in the order they came;
- treats each class by itself, unless an option says otherwise;
- gives no score above the best of its class in `instances` and the pool, and leaves its inputs untouched;
- keeps the masks, with their own frames, and the source of the instances it keeps, also where it moves their boxes.
"""

from typing import Protocol

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances


class Merge(Protocol):
    """`instances` are what the rule before left; `pool` holds all that the views found, before the first rule.

    The pool is for rules that let suppressed boxes speak once more, such as box voting, and for those that ask how
    many views could have found a box.
    """

    def __call__(self, instances: Instances, pool: Pool) -> Instances: ...
