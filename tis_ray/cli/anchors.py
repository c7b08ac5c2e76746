"""The command that fits anchors to a data set and says which objects they, and the menu's, overlap: anchors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tis_ray.cli.shared import check_out, console, say
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchvision.models.detection.anchor_utils import AnchorGenerator

    from tis_ray.data.objects import Objects
    from tis_ray.evaluation.anchor_recall import AnchorLayout, Values
    from tis_ray.formats.dataset import GroundTruth

MOST_LABEL_IMAGES = 1000


def fit_anchors(
    data: Annotated[Path, typer.Argument(help="COCO JSON with annotations, or folder of WAD label images.")],
    scale: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Shorter edge in training, as in the recipe; may be repeated. Default: native size."),
    ] = None,
    max_long_edge: Annotated[
        int | None,
        typer.Option(min=0, help="With --scale: longest longer edge; 0 for none. Default: the recipes', 1333."),
    ] = None,
    levels: Annotated[int, typer.Option(min=1, help="Sizes to fit: one for each level of strides 4, 8, 16, ...")] = 5,
    space: Annotated[str, typer.Option(help="What is clustered: linear (sizes), log, or iou (boxes).")] = "linear",
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Look at that many images at most. Default: all, but 1000 of WAD's label images."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the recall of anchors by object size, as .png.")] = None,
) -> None:
    """Fit anchor sizes to a data set, and see which of its objects these and all other anchors overlap.

    Prints what goes into a recipe. Example:
    `tis-ray anchors demo/scenes/instances_train.json --scale 288 --max-long-edge 512 --plot recall.png`
    """
    from tis_ray.data.anchor_sizes import check_space, cluster_sizes
    from tis_ray.evaluation.anchor_table import recall_table, scales_line

    if max_long_edge is not None and not scale:
        raise ConfigError(f"--max-long-edge: expected --scale beside it; got {max_long_edge} alone")
    check_space(space)
    _check_plot(plot)
    objects, measured = _objects(data, scale or (), max_long_edge, max_images)
    clusters = cluster_sizes(objects.sides_wh, count=levels, space=space)
    sizes = [round(size, 2) for size in clusters.sizes.tolist()]
    say(measured)
    say(scales_line(objects.scales))
    centres = ", ".join(f"{size:g} px ({share:.0%})" for size, share in zip(sizes, clusters.shares, strict=True))
    say(f"centres: {centres}")
    say(f"\nanchors: {{cluster: {{sizes: {sizes}}}}}\n")
    ious = _best_ious(objects, sizes)
    _print_whole(recall_table(objects.scales, ious))
    if plot is not None:
        from tis_ray.evaluation.plots import anchor_recall_curves

        anchor_recall_curves(objects.scales, ious, plot)
        say(f"recall by size: {plot}")


def _print_whole(table: Table) -> None:
    """A line too long for the terminal is wrapped by it; figures cut short to fit in could not be read."""
    out = console()
    out.width = max(out.width, out.measure(table, options=out.options.update(max_width=1000)).maximum)
    out.print(table)


def _check_plot(plot: Path | None) -> None:
    if plot is not None:
        from tis_ray.evaluation.plots import check_picture

        check_picture(plot, key="--plot")
        check_out("--plot", plot)


def _objects(
    data: Path, scales: "Sequence[int]", max_long_edge: int | None, max_images: int | None
) -> tuple["Objects", str]:
    """The objects of a data set in network pixels, and a line that says what was measured and how."""
    from tis_ray.config import DataSection
    from tis_ray.data.objects import in_network, read_objects
    from tis_ray.formats import coco, wad
    from tis_ray.results.progress import shown_on

    truth: GroundTruth = wad.read(data, data) if data.is_dir() else coco.read(data)  # pictures are not needed
    most = max_images or (len(truth) if truth.in_memory else MOST_LABEL_IMAGES)
    records = truth.images[:: max(1, -(-len(truth) // max(1, most)))]
    progress = shown_on(Console(stderr=True, highlight=False))
    objects = read_objects(truth, progress(records, "reading objects", len(records), "images"))
    of = "" if len(records) == len(truth) else f" of {len(truth)}"
    found = f"{len(objects)} objects of {len(records)}{of} images"
    if not scales:
        return objects, f"{found}, in the images' own pixels: --scale measures them as a recipe resizes them"
    cap = DataSection.model_fields["max_long_edge"].default if max_long_edge is None else max_long_edge
    edges = f"shorter edge {' or '.join(map(str, scales))}, longer edge {f'at most {cap}' if cap else 'as it comes'}"
    at = f"at {len(scales)} scales" if len(scales) > 1 else "at 1 scale"
    return in_network(objects, scales=scales, max_long_edge=cap or None), f"{found}, in network pixels {at}: {edges}"


def _best_ious(objects: "Objects", sizes: list[float]) -> dict[str, "Values"]:
    """By the name of an anchor set, the fitted one first, each object's IoU with its best anchor."""
    from tis_ray.evaluation.anchor_recall import best_ious
    from tis_ray.menu import choices, pick
    from tis_ray.models.detector import SIZE_DIVISOR
    from tis_ray.models.necks.fpn import Fpn

    padded_hw = -(-objects.frames_hw // SIZE_DIVISOR) * SIZE_DIVISOR
    folder, finest = "tis_ray.models.anchors", Fpn.strides[0]
    fitted = pick(folder, "build", "cluster", key="anchors")([finest << i for i in range(len(sizes))], sizes=sizes)
    layouts = {"fitted": layout_of(fitted, fitted.strides)}
    for name in choices(folder):
        layouts[name] = layout_of(pick(folder, "build", name, key="anchors")(Fpn.strides), Fpn.strides)
    return {name: best_ious(objects.boxes, padded_hw, layout) for name, layout in layouts.items()}


def layout_of(anchors: "AnchorGenerator", strides: "Sequence[int]") -> "AnchorLayout":
    """How a generator lays its anchors; one without `strides` of its own, torchvision's, guesses them by each frame."""
    from tis_ray.evaluation.anchor_recall import AnchorLayout

    shapes = tuple(level.double().numpy() for level in anchors.cell_anchors)
    return AnchorLayout(shapes, tuple(strides), spread=not hasattr(anchors, "strides"))
