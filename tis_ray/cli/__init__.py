"""The `tis-ray` command: each command is a few lines over the library, which is imported when it is needed.

A user's mistake ends with one line on stderr and exit code 2; exit code 1 means that images of a batch run failed.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from tis_ray.cli.anchors import fit_anchors
from tis_ray.cli.batch import predict
from tis_ray.cli.calibrating import calibrate
from tis_ray.cli.cluster import jobs, stop
from tis_ray.cli.comparing import compare
from tis_ray.cli.converting import convert
from tis_ray.cli.data import app as data_commands
from tis_ray.cli.evaluating import evaluate
from tis_ray.cli.fusing import fuse
from tis_ray.cli.models import inspect, models
from tis_ray.cli.planning import plan
from tis_ray.cli.self_training import pseudo_label
from tis_ray.cli.serving import segment, serve
from tis_ray.cli.shared import console
from tis_ray.cli.training import import_weights, report, scenes, train
from tis_ray.cli.tuning import ablate, tune
from tis_ray.errors import TisRayError

app = typer.Typer(
    name="tis-ray",
    help="Find and segment tiny objects with multi-scale ensembles of two-stage detectors, on Ray.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option(help="COCO-format folder to use in place of procedural scenes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of scenes and training.")] = 0,
) -> None:
    """Train, serve, query, submit and score a small ensemble, from nothing, in a few minutes.

    Example: `tis-ray demo --out demo`
    """
    from tis_ray.demo import run_demo

    run_demo(out, data=data, seed=seed, console=console())


for _name, _command in (
    ("demo", demo),
    ("scenes", scenes),
    ("train", train),
    ("report", report),
    ("import", import_weights),
    ("serve", serve),
    ("segment", segment),
    ("predict", predict),
    ("convert", convert),
    ("fuse", fuse),
    ("evaluate", evaluate),
    ("compare", compare),
    ("calibrate", calibrate),
    ("tune", tune),
    ("ablate", ablate),
    ("pseudo-label", pseudo_label),
    ("anchors", fit_anchors),
    ("models", models),
    ("inspect", inspect),
    ("plan", plan),
    ("jobs", jobs),
    ("stop", stop),
):
    app.command(_name)(_command)
app.add_typer(data_commands, name="data")


def main() -> NoReturn:
    """Entry point: runs a command and turns a user's mistake into one line and exit code 2."""
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call to Ray must not start another one
    try:
        app()
    except TisRayError as error:
        _fail(str(error))
    except OSError as error:  # a file or folder that cannot be read or written
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(Text.assemble(("error:", "red"), f" {message}"), soft_wrap=True)
    sys.exit(2)
