"""What an inspection found, as tables that fit 80 columns."""

import json
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tis_ray.inspection.assembled import Chosen, Size
from tis_ray.inspection.costs import Inspection, StepCost, ViewCost
from tis_ray.inspection.dry_run import PARTS

GIB = 2**30


def report(found: Inspection) -> Iterator[RenderableType]:
    """Choices, weights, arithmetic and memory, and below them what the reader should know."""
    height, width = found.image_hw
    yield Text.assemble((found.name, "bold"), f": {found.classes}; images of {width}x{height}")
    yield choices_table(found.choices)
    yield sizes_table(found.sizes)
    yield flops_table(found.views)
    yield memory_table(found.views, sum(size.num_bytes for size in found.sizes))
    if found.step is not None:
        yield Text(_step_line(found.step))
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
    rows = [*sizes, Size("all", *(sum(getattr(one, name) for one in sizes) for name in Size.__slots__[1:]))]
    for one in rows:
        table.add_row(
            one.part, f"{one.trained / 1e6:.2f}", f"{one.others / 1e6:.2f}", f"{one.num_bytes / GIB:.3f}",
            end_section=one is rows[-2],
        )  # fmt: skip
    return table


def flops_table(views: list[ViewCost]) -> Table:
    """A row for each scale: the network's frame, how many there are, and what one costs, part by part."""
    table = _table(
        "view", right=("network", "frames", "all", *PARTS), title="GFLOP of one frame, a multiply-add counting as two"
    )
    for view in views:
        height, width = view.frames.network_hw
        table.add_row(
            view.frames.key,
            f"{width}x{height}",
            str(view.frames.per_image),
            _giga(sum(view.flops.values())),
            *(_giga(view.flops[part]) for part in PARTS),
        )
    return table


def memory_table(views: list[ViewCost], weights_bytes: int) -> Table:
    """A row for each scale: frames that share a forward, and GiB of it in both precisions with the weights."""
    headings = ("frames at once", "weights", "float32", "peak in", "bfloat16", "peak in")
    table = _table("view", right=headings, title="GiB of one forward, beside the weights")
    for view in views:
        table.add_row(
            view.frames.key,
            str(view.frames.per_batch),
            f"{weights_bytes / GIB:.2f}",
            *(text for peak in (view.float32, view.bfloat16) for text in (f"{peak.num_bytes / GIB:.2f}", peak.part)),
        )
    return table


def _step_line(step: StepCost) -> str:
    height, width = step.network_hw
    float32, bfloat16 = ((step.kept_bytes + peak.num_bytes) / GIB for peak in (step.float32, step.bfloat16))
    return (
        f"training step: {step.num_frames} x 3 x {height} x {width} on each worker, {float32:.1f} GiB in float32 "
        f"(peak in {step.float32.part}), {bfloat16:.1f} GiB in bfloat16 (peak in {step.bfloat16.part})"
    )


def _table(*left: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _giga(count: int) -> str:
    return f"{count / 1e9:,.0f}" if count >= 10e9 else f"{count / 1e9:.1f}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
