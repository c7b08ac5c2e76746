"""The second pass (MegDetV2, COCO 2019; TIS, WAD 2018): masks that are predicted on the fused boxes themselves.

In the first pass views bring boxes, which are fused; in the second they are asked for the masks of what came of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, Pasting
from tis_ray.views import View


class Plan(NamedTuple):
    """What a view is asked for. A view without `boxes` has nothing to say in the first pass but its features.

    boxes:     its own detections, in the first pass
    own_masks: their masks beside them
    masks:     the masks of the fused boxes, in the second pass
    """

    boxes: bool
    own_masks: bool
    masks: bool


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What the first pass comes to: the fused `instances`, ranked and cut to `top_k`, and what all views found."""

    instances: Instances
    pool: Pool


def with_masks(merged: Merged, masks: Mapping[View, BoxMasks], *, pasting: Pasting) -> Merged:
    """The same with what views predicted for the merged boxes, in order, in the place of their own detections' masks.

    In the pool they are instances of the fused boxes, labels and scores; absent ones are left out. An instance comes
    with the mask of the view that its box came from, where that has predicted one, else with what it had. Raises
    `InputError` for views and numbers of masks that do not fit, and for values that `BoxMasks` does not allow.
    """
    if not masks:
        return merged
    pool = merged.pool
    numbers = {view: number for number, view in enumerate(pool.views)}
    for view, found in masks.items():
        _check(view, found, numbers, len(merged.instances))
    asked = {numbers[view]: replace(found, pasting=pasting) for view, found in masks.items()}
    second = [replace(merged.instances.from_view(number), masks=found) for number, found in sorted(asked.items())]
    stay = ~np.isin(pool.masked.source, list(asked))
    kept = np.concatenate([stay, *(one.masks.present for one in second if one.masks is not None)])
    owners = [np.full(len(stay), -1), *(np.arange(len(merged.instances)) for _ in second)]
    masked = Instances.concatenate([pool.masked, *second])
    pool = replace(pool, masked=masked[kept], predicted_for=np.concatenate(owners)[kept])
    return Merged(_with_own(merged.instances, asked, pasting), pool)


def _with_own(instances: Instances, asked: Mapping[int, BoxMasks], pasting: Pasting) -> Instances:
    """The instances with the mask that the view of each predicted for its box."""
    own = instances.masks
    if own is None:
        own = replace(BoxMasks.absent(instances.boxes), pasting=pasting)
    for number in np.unique(instances.source).tolist():
        if number in asked:
            own = own.replaced(_from(instances, number) & asked[number].present, asked[number])  # type: ignore[arg-type]
    return replace(instances, masks=own)


def _from(instances: Instances, number: int) -> NDArray[np.bool_]:
    return np.asarray(instances.source == number)


def _check(view: View, masks: BoxMasks, numbers: Mapping[View, int], count: int) -> None:
    if view not in numbers:
        known = ", ".join(one.name for one in numbers)
        raise InputError(f"masks: expected views among the sources {known}; got {view.name}")
    if len(masks) != count:
        raise InputError(f"masks of view {view.name}: expected {count}, one for each fused box; got {len(masks)}")
    try:
        masks.check_values()
    except InputError as error:
        raise InputError(f"view {view.name}: {error}") from None
