"""Valid ranges that follow from training: a view speaks for the sizes that it shows as its detector has seen them.

A detector that was trained on objects of sqrt(box area) between `low` and `high` network pixels sees, in a view of f
network pixels per image pixel, those of low / f to high / f image pixels well. Nothing may fall between two scales of
a member, or beyond its coarsest and finest one.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from tis_ray.config import Ensemble, FusionSection
from tis_ray.errors import ConfigError
from tis_ray.formats.training_sizes import TRAINING_SIZES, TrainingSizes
from tis_ray.fusion.ranges import EVERY_SIZE, Range, range_of
from tis_ray.views import SizeHW, View

_HALF_OCTAVE = math.sqrt(2)


def ranges_of(
    views: Sequence[View], section: FusionSection, *, sizes: Mapping[str, TrainingSizes], image_hw: SizeHW
) -> list[Range]:
    """What each view may speak for in an image of this size: what is written, else what is found, else every size.

    `sizes` are the members' training sizes, by name. What is found for a view does not depend on what is written for
    another. Raises `ConfigError` where the sizes of a member are needed and missing.
    """
    ranges = [range_of(view, section.ranges) for view in views]
    if section.auto_ranges is not None:
        for name in sorted({view.member for view, found in zip(views, ranges, strict=True) if found is None}):
            if name not in sizes:
                raise ConfigError(f"fusion.auto_ranges: expected the training sizes of members.{name}; got none")
            own = [number for number, view in enumerate(views) if view.member == name]
            low_px, high_px = sizes[name].at(section.auto_ranges.low), sizes[name].at(section.auto_ranges.high)
            found = member_ranges(tuple(views[number] for number in own), image_hw, low_px, high_px)
            for number, interval in zip(own, found, strict=True):
                ranges[number] = ranges[number] or interval
    return [interval or EVERY_SIZE for interval in ranges]


def check_sizes(ensemble: Ensemble, sizes: Mapping[str, TrainingSizes]) -> None:
    """Raise `ConfigError`, naming the checkpoint, where ranges are to be found and a member has no training sizes."""
    if ensemble.fusion.auto_ranges is None:
        return
    for view in ensemble.views:
        if view.member not in sizes and range_of(view, ensemble.fusion.ranges) is None:
            raise ConfigError(
                f"fusion.auto_ranges: expected {TRAINING_SIZES} in {ensemble.members[view.member].checkpoint}, the "
                f"checkpoint of members.{view.member}, as training leaves it there; there is none: train that member "
                f'again, or write its ranges under fusion.ranges, as "{view.key}": [0, null]'
            )


@lru_cache(maxsize=256)
def member_ranges(views: tuple[View, ...], image_hw: SizeHW, low_px: float, high_px: float) -> tuple[Range, ...]:
    """[low, high) of sqrt(box area) in image pixels for each view of one member, trained on low_px..high_px.

    Of the views of the whole image the coarsest has no upper end, the finest none below, and where two neighbours leave
    a gap both are widened to its geometric mean. Grids are views of the whole image, but those that give way see no
    more than their overlap for certain, so what is larger is left to none of them alone. Crops do not count, but their
    ranges lie between those of the whole views beside them; a member that has crops alone speaks for every size
    within each of them. A larger scale never speaks for larger sizes than a smaller one, at either end.
    """
    if not low_px < high_px:
        low_px, high_px = low_px / _HALF_OCTAVE, high_px * _HALF_OCTAVE  # one size alone is no range
    factors = [view.resize_factor(image_hw) for view in views]
    whole = any(not view.crop for view in views)
    ladders: dict[tuple[int, ...], list[_Rung]] = {}
    for crop in {() if whole else view.crop for view in views}:
        seen = [(f, view) for f, view in zip(factors, views, strict=True) if f is not None and view.crop == crop]
        ladders[crop] = _ladder(seen, image_hw, low_px, high_px)
    return tuple(
        EVERY_SIZE if f is None else _between(f, ladders[() if whole else view.crop], low_px, high_px)
        for f, view in zip(factors, views, strict=True)
    )


_Rung = tuple[float, float, float]  # factor, low, high


def _ladder(seen: Sequence[tuple[float, View]], image_hw: SizeHW, low_px: float, high_px: float) -> list[_Rung]:
    """The ranges of scales that see the same part of the image, coarsest first, without a gap."""
    reach: dict[float, float] = {}
    for factor, view in seen:
        reach[factor] = max(reach.get(factor, 0.0), _reach(view, image_hw))
    if not reach:
        return []
    factors = sorted(reach)
    lows, highs = [low_px / f for f in factors], [high_px / f for f in factors]
    for i in range(len(factors) - 1):
        if highs[i + 1] < lows[i]:
            lows[i] = highs[i + 1] = math.sqrt(lows[i]) * math.sqrt(highs[i + 1])
    lows[-1] = 0.0
    for i in reversed(range(len(factors) - 1)):
        lows[i] = max(min(lows[i], reach[factors[i + 1]]), lows[i + 1])
    trusted = next((i for i, f in enumerate(factors) if reach[f] == math.inf), 0)
    highs = [math.inf if i <= trusted else high for i, high in enumerate(highs)]
    return list(zip(factors, lows, highs, strict=True))


def _reach(view: View, image_hw: SizeHW) -> float:
    """Up to which size nothing that the view may speak for is cut and left to another view."""
    one_piece = not view.tile or (view.tile[0] >= image_hw[1] and view.tile[1] >= image_hw[0])
    return math.inf if one_piece or not view.gives_way else float(view.tile[2])


def _between(factor: float, ladder: Sequence[_Rung], low_px: float, high_px: float) -> Range:
    """The range of a view: its rung of the ladder, or, for a crop, its own one within those of the rungs beside it."""
    coarser = [low for rung, low, _ in ladder if rung <= factor]
    finer = [high for rung, _, high in ladder if rung >= factor]
    return min([low_px / factor, *coarser]), max([high_px / factor, *finer])
