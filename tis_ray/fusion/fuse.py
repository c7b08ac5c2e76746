"""Many views of one image in, one answer out: rare-class boost, valid ranges, merge rules in order, `top_k`, masks.

The answer depends on what each view found and on nothing else: not on the order in which views arrive, since
views are numbered by `sources` and every tie is broken by view number, then by position within the view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tis_ray import menu
from tis_ray.config import Choice, FusionSection
from tis_ray.errors import InputError
from tis_ray.fusion.mask_select import Select
from tis_ray.fusion.ranges import within
from tis_ray.fusion.rare_boost import boost_factors, boosted
from tis_ray.fusion.rules import Merge
from tis_ray.instances import Categories, Instances
from tis_ray.ops import boxes as box_ops
from tis_ray.views import SizeHW, View


def fuse(
    views: Mapping[View, Instances],
    section: FusionSection,
    *,
    image_hw: SizeHW,
    sources: Sequence[View] | None = None,
    categories: Categories | None = None,
) -> Instances:
    """Fuse once; see `Fuser`, which is built once for many images."""
    return Fuser(section, categories).fuse(views, image_hw=image_hw, sources=sources)


class Fuser:
    """The fusion a section describes, its rules and mask policy looked up and their options checked.

    `categories` is the class table of the labels; a rare-class boost needs it. Raises `ConfigError`, with the choices,
    for a rule, mask policy or option that does not exist, and for a boost that the table cannot serve.
    """

    def __init__(self, section: FusionSection, categories: Categories | None = None) -> None:
        self._section = section
        self._num_classes = np.iinfo(np.int32).max if categories is None else len(categories)
        self._factors = None if section.rare_boost is None else boost_factors(section.rare_boost, categories)
        self._rules: tuple[Merge, ...] = tuple(
            _assemble("tis_ray.fusion.rules", "merge", rule, key=f"fusion.rules.{i}")
            for i, rule in enumerate(section.rules)
        )
        self._select: Select = _assemble("tis_ray.fusion.mask_select", "select", section.masks, key="fusion.masks")

    def fuse(
        self,
        views: Mapping[View, Instances],
        *,
        image_hw: SizeHW,
        sources: Sequence[View] | None = None,
    ) -> Instances:
        """One answer from the instances of each view, whose boxes lie in the image frame.

        `sources` lists all views that were asked, and an instance's `source` is its view's index there (default:
        the sorted keys of `views`). A view that is listed but brought nothing has failed; its number stays free.

        Returns at most `top_k` instances over all classes by descending score, then ascending source, then in
        the order the rules left them, with boxes clipped to the image. Raises `InputError` for a view that
        is not listed, for values that are not finite, scores beyond 0..1 or labels beyond the class table, and for
        masks in some views only.
        """
        sources = sorted(views) if sources is None else list(sources)
        pool = self._union(views, sources, image_hw)
        fused = pool
        for rule in self._rules:
            fused = rule(fused, pool)
        fused = fused[fused.scores >= self._section.score_threshold]
        ranked = np.lexsort((fused.source, -fused.scores))[: self._section.top_k]
        return self._select(fused[ranked], pool, sources, image_hw)

    def _union(self, views: Mapping[View, Instances], sources: Sequence[View], image_hw: SizeHW) -> Instances:
        """What all views found, by view number and position: boosted, within ranges and image."""
        strangers = sorted(view.name for view in views if view not in sources)
        if strangers:
            known = ", ".join(view.name for view in sources)
            raise InputError(f"views: expected views among the sources {known}; got {', '.join(strangers)}")
        parts = []
        for number, view in enumerate(sources):
            if view in views:
                _check(views[view], view, self._num_classes)
                found = views[view] if self._factors is None else boosted(views[view], self._factors)
                parts.append(within(found, view, self._section.ranges).from_view(number))
        return _clip(Instances.concatenate(parts), image_hw)


def _assemble(package: str, function: str, choice: Choice, *, key: str) -> Any:
    found = menu.pick(package, function, choice.name, key=key)
    options = menu.check_options(found, choice.options, key=f"{key}.{choice.name}")
    return partial(found, **options)


def _check(instances: Instances, view: View, num_classes: int) -> None:
    try:
        instances.check_values(num_classes=num_classes)
    except InputError as error:
        raise InputError(f"view {view.name}: {error}") from None


def _clip(instances: Instances, image_hw: SizeHW) -> Instances:
    """Boxes cut to the image, those without area dropped; masks keep their own frames."""
    boxes = box_ops.clip(instances.boxes, *image_hw)
    return replace(instances, boxes=boxes)[box_ops.area(boxes) > 0]
