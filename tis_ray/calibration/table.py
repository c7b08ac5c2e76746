"""What was fitted, as a table for a terminal and as lines on what was not."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tis_ray.calibration.fitting import MemberFit
from tis_ray.config import Choice


def fits_table(fits: Mapping[str, MemberFit]) -> Table:
    """One row for each member: what was fitted, on how many detections, and two measures before and after."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("member", overflow="fold")
    table.add_column("calibration", no_wrap=True)
    for heading in ("found", "hits", "ECE", "NLL"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, fit in fits.items():
        before, after = fit.before, fit.after
        table.add_row(
            escape(name),
            "none" if fit.calibration is None else _in_words(fit.calibration),
            str(len(fit.scores)),
            str(int(fit.hits.sum())),
            *(_change(*pair) for pair in ((before.ece, after.ece), (before.nll, after.nll)) if len(fit.scores)),
        )
    return table


def remarks(fits: Mapping[str, MemberFit], *, shown: int = 5) -> Iterator[str]:
    """A line for each member that stays as it is, or of which some classes go by its own calibration, and why."""
    for name, fit in fits.items():
        if fit.problem:
            yield f"{name} is not calibrated: {fit.problem}"
        elif fit.left_out:
            total = len(fit.class_calibration) + len(fit.left_out)
            some = [f"{class_name} ({why})" for class_name, why in list(fit.left_out.items())[:shown]]
            more = f" and {len(fit.left_out) - shown} more" if len(fit.left_out) > shown else ""
            yield f"{name}: {len(fit.left_out)} of {total} classes go by the member's own: {', '.join(some)}{more}"


def _in_words(choice: Choice) -> str:
    """`platt`, and each option on a line of its own; lists by their lengths."""
    return "\n".join([choice.name, *(_option(name, value) for name, value in choice.options.items())])


def _option(name: str, value: Any) -> str:
    return f"{len(value)} {name}" if isinstance(value, list) else f"{name} {value:.3g}"


def _change(before: float, after: float) -> str:
    return f"{before:.3f} → {after:.3f}"
