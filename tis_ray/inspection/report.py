"""What an inspection found, as tables that fit 80 columns."""

import json
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tis_ray.inspection.assembled import Chosen, Size
from tis_ray.inspection.costs import Inspection, StepCost, ViewCost
from tis_ray.inspection.dry_run import AT_TEST, Peak
from tis_ray.views import SizeHW

GIB = 2**30
_PEAKS = ("float32", "peak in", "bfloat16", "peak in")


def report(found: Inspection) -> Iterator[RenderableType]:
    """Choices, weights, arithmetic and memory, and below them what the reader should know."""
    yield Text.assemble((found.name, "bold"), f": {found.classes}; images of {_size(found.image_hw)}")
    yield choices_table(found.choices)
    yield sizes_table(found.sizes)
    yield flops_table(found.views)
    yield memory_table(found.views, sum(size.num_bytes for size in found.sizes))
    if found.step is not None:
        yield step_table(found.step)
    for note in found.notes:
        yield Text(note)


def choices_table(choices: list[Chosen]) -> Table:
    """A row for each key: what is chosen, and the options that the recipe gives."""
    table = _table("detector", "choice", "options given")
    for one in choices:
        options = ", ".join(f"{name}: {_plain(value)}" for name, value in one.options.items())
        table.add_row(Text(one.key.removeprefix("detector.")), Text(one.name), Text(options))
    return table


def sizes_table(sizes: list[Size]) -> Table:
    """A row for each part: millions of numbers, and what they take in float32."""
    table = _table("part", right=("trainable", "others", "GiB"), title="Weights in millions; GiB of float32")
    total = Size(
        "all",
        sum(one.trained for one in sizes),
        sum(one.others for one in sizes),
        sum(one.num_bytes for one in sizes),
    )
    for one in (*sizes, total):
        if one is total:
            table.add_section()
        numbers = f"{one.trained / 1e6:.2f}", f"{one.others / 1e6:.2f}", f"{one.num_bytes / GIB:.3f}"
        table.add_row(one.part, *numbers)
    return table


def flops_table(views: list[ViewCost]) -> Table:
    """A row for each scale: the network's frame, how many there are, and what one costs, part by part."""
    table = _table(
        "view", right=("network", "frames", "all", *AT_TEST), title="GFLOP of one frame, a multiply-add counting as two"
    )
    for view in views:
        table.add_row(
            view.frames.key,
            _size(view.frames.network_hw),
            str(view.frames.per_image),
            _giga(sum(view.flops.values())),
            *(_giga(view.flops[part]) for part in AT_TEST),
        )
    return table


def memory_table(views: list[ViewCost], weights_bytes: int) -> Table:
    """A row for each scale: frames that share a forward, and GiB of it in both precisions beside the weights."""
    headings = ("network", "at once", "weights", *_PEAKS)
    table = _table("view", right=headings, title="GiB of one forward, beside the weights")
    for view in views:
        table.add_row(
            view.frames.key,
            _size(view.frames.network_hw),
            str(view.frames.per_batch),
            f"{weights_bytes / GIB:.2f}",
            *_peak(view.float32),
            *_peak(view.bfloat16),
        )
    return table


def step_table(step: StepCost) -> Table:
    """One row as above, for the largest frames of training."""
    title = "GiB of a training step, beside weights, momentum and exchanged gradients"
    table = _table(right=("network", "at once", "kept", *_PEAKS), title=title)
    table.add_row(
        _size(step.network_hw),
        str(step.num_frames),
        f"{step.kept_bytes / GIB:.2f}",
        *_peak(step.float32),
        *_peak(step.bfloat16),
    )
    return table


def _table(*left: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _size(size_hw: SizeHW) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"


def _peak(peak: Peak) -> tuple[str, str]:
    return f"{peak.num_bytes / GIB:.2f}", peak.part


def _giga(count: int) -> str:
    return f"{count / 1e9:,.0f}" if count >= 10e9 else f"{count / 1e9:.1f}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
