"""A plan and what it was compared with, as tables that fit 80 columns."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tis_ray.planning.costs import Costs
from tis_ray.planning.plan import Comparison, Group, Plan

TITLES: dict[Group, str] = {
    "member": "one for each member",
    "scale": "one for each scale",
    "written": "groups as written",
    "auto": "chosen groups",
}


def report(found: Comparison, costs: Costs, *, gpus: int, memory_gb: float) -> Iterator[RenderableType]:
    """The plan, the ways to group views beside it, and what the reader should know."""
    yield Text.assemble((TITLES[found.group], "bold"), f", {gpus} GPUs of {memory_gb:g} GB, {costs.image_size} px")
    yield deployments_table(found.best)
    yield comparison_table(found)
    yield Text(_provenance(costs))
    spare = gpus - found.best.gpus
    if spare > 1e-6:
        yield Text(f"{spare:.2f} of the GPUs are spare: no more replicas there would raise the throughput.")


def deployments_table(plan: Plan) -> Table:
    """A row for each deployment."""
    table = _table("deployment", "views", right=("s/frame", "GiB", "replicas", "GPU share", "load"))
    for one in plan.placed:
        table.add_row(
            one.name,
            " ".join(one.views),
            f"{one.seconds:.3f}",
            f"{one.gib:.1f}",
            str(one.replicas),
            "1" if one.per_gpu == 1 else f"1/{one.per_gpu}",
            f"{one.load:.0%}",
        )
    return table


def comparison_table(found: Comparison) -> Table:
    """A row for each way of grouping: what it comes to at its best."""
    table = _table("", right=("deployments", "replicas", "GPUs", "frames/s", "a lone frame, s"))
    for group, plan in {**found.others, found.group: found.best}.items():
        heading = Text(TITLES[group], style="bold" if group == found.group else "")
        if plan is None:
            table.add_row(heading, Text("no room"), "", "", "", "")
            continue
        table.add_row(
            heading,
            str(len(plan.placed)),
            str(plan.num_replicas),
            f"{plan.gpus:.2f}",
            f"{plan.throughput:.2f}",
            f"{plan.alone_s:.3f}",
        )
    return table


def _provenance(costs: Costs) -> str:
    if costs.seconds == "estimated":
        return (
            f"Seconds and memory are estimates from shapes, for {costs.device}, not measured: run this with --measure "
            "on a machine with the GPU."
        )
    if costs.memory == "estimated":
        return (
            f"Seconds were measured on {costs.device}, memory is estimated: proportions may differ on a GPU, and "
            "seconds will."
        )
    return f"Seconds and memory were measured on {costs.device}."


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
