"""Numbers in the words and forms that pages use."""

import math

UNDEFINED = "n/a"


def percent(score: float | None, *, digits: int = 1) -> str:
    """A score of 0..1 in percent without the sign; n/a for None, NaN and COCO's -1."""
    return UNDEFINED if score is None or math.isnan(score) or score < 0 else f"{100 * score:.{digits}f}"


def interval(pair: tuple[float, float] | None) -> str:
    """The same of an interval, signs kept: `12.0 to 15.1`."""
    return UNDEFINED if pair is None else f"{100 * pair[0]:z.1f} to {100 * pair[1]:z.1f}"


def points(difference: float | None) -> str:
    """A difference of two scores in percentage points, with its sign."""
    return UNDEFINED if difference is None or math.isnan(difference) else f"{100 * difference:+z.1f}"


def count(number: int, thing: str, things: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def share(part: int, of: int) -> str:
    """`900 of 1,200 (75%)`."""
    return f"{part:,} of {of:,} ({part / of:.0%})" if of else f"{part:,} of {of:,}"
