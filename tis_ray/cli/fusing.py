"""The command over results files: fuse."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import Overrides, check_out, say
from tis_ray.errors import ConfigError


def fuse(
    files: Annotated[
        list[Path], typer.Argument(help="COCO results files, of boxes, RLE or polygon masks; or one YAML listing them.")
    ],
    data: Annotated[Path, typer.Option(help="COCO JSON of their images and categories; annotations are not needed.")],
    out: Annotated[Path, typer.Option(help="COCO results file to write.")],
    fusion: Annotated[
        str | None, typer.Option(help="Preset, tis, lvis or megdet: short for --set fusion.preset=NAME.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Fuse results files of any framework into one, without a model.

    A YAML file has the `results` by name, each with its `file` and, where wanted, `member`, `scale`, `flip`, `weight`,
    `role` and `range`, and a `fusion` section like an ensemble's. Example:
    `tis-ray fuse resnet.json shufflenet.json --data instances_val.json --out fused.json --fusion tis`
    """
    from tis_ray.results import fuse_files, open_files
    from tis_ray.results.progress import shown_on

    preset = [] if fusion is None else [f"fusion.preset={fusion}"]
    opened = open_files(files, [*preset, *(overrides or ())])
    for path in files:  # a YAML among them, which `fuse_files` does not know
        if path.resolve() == out.resolve():
            raise ConfigError(f"--out: expected another file than those that are read; got {out}")
    check_out("--out", out)
    console = Console(stderr=True, highlight=False, markup=False)
    summary = fuse_files(opened, data, out, progress=shown_on(console))
    read = ", ".join(f"{number} of {name}" for name, number in summary.num_read.items())
    say(f"{summary.num_images} images, results {read}: {summary.num_written} written to {out}")
