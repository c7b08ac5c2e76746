"""The command that makes training data of results: pseudo-label."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tis_ray.cli.shared import check_out, say
from tis_ray.errors import ConfigError

SHOWN = 10  # classes


def pseudo_label(
    results: Annotated[Path, typer.Argument(help="COCO results JSON of a teacher, as `tis-ray predict` writes it.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    ground_truth: Annotated[
        Path | None, typer.Option(help="COCO JSON of a training set: find the objects that it has no label for.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder, .txt list or COCO JSON of images that nobody labelled: label them.")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option(help="Folder of a COCO JSON's files, where not beside it.")
    ] = None,
    categories: Annotated[
        Path | None,
        typer.Option(help="With --images: what made the results, or a COCO JSON of their classes; default: --images'."),
    ] = None,
    min_score: Annotated[float, typer.Option(help="Least score of a box that is believed.")] = 0.5,
    max_overlap: Annotated[
        float, typer.Option(help="With --ground-truth: IoU with a label from which on a box is not missing.")
    ] = 0.1,
) -> None:
    """Turn what a teacher found into training data (LVIS 2020).

    With --ground-truth, boxes of objects that nobody labelled, for `data.train.unlabelled`: training takes them for no
    background. With --images, a COCO file of labels, for `data.external`. Example:
    `tis-ray pseudo-label results.json --ground-truth demo/scenes/instances_train.json --out unlabelled.json`
    """
    if (ground_truth is None) == (images is None):
        raise ConfigError("--ground-truth, --images: expected one of them, what the results were made of")
    if ground_truth is not None and categories is not None:
        raise ConfigError("--categories: expected it beside --images; --ground-truth has its own")
    if out.resolve() in [path.resolve() for path in (results, ground_truth, images, categories) if path is not None]:
        raise ConfigError(f"--out: expected another file than those that are read; got {out}")
    check_out("--out", out)
    if ground_truth is not None:
        _write_missing(
            results, ground_truth, out, image_folder=image_folder, min_score=min_score, max_overlap=max_overlap
        )
    elif images is not None:
        _write_external(results, images, out, categories, image_folder=image_folder, min_score=min_score)


def _write_missing(results: Path, ground_truth: Path, out: Path, **options: Any) -> None:
    from tis_ray.self_training.files import write_missing

    missing = write_missing(results, ground_truth, out, **options)
    say(f"{missing.num_boxes} unlabelled boxes in {len(missing.found)} images: {out}")
    _say_classes(missing.per_class)
    say(f"train with --set data.train.unlabelled={out}")


def _write_external(results: Path, images: Path, out: Path, categories: Path | None, **options: Any) -> None:
    from tis_ray.self_training.files import categories_of, write_external

    table = None if categories is None else categories_of(categories)
    labelled = write_external(results, images, out, categories=table, **options)
    kind = "boxes and masks" if labelled.has_masks else "boxes without masks"
    say(f"{labelled.num_boxes} {kind} in {labelled.num_images} images: {out}")
    _say_classes(labelled.per_class)
    if labelled.without_mask:
        say(f"left out {labelled.without_mask} boxes that have no mask")
    say(f"train with --set data.external.annotations={out} --set data.external.images={labelled.image_folder}")


def _say_classes(per_class: Counter[str]) -> None:
    if per_class:
        most = ", ".join(f"{name} {number}" for name, number in per_class.most_common(SHOWN))
        more = len(per_class) - SHOWN
        say(f"most of them: {most}" + (f", and {more} more classes" if more > 0 else ""))
