"""The cluster's side of `tis-ray train --submit`: train recipes as a Ray job and leave the checkpoints for fetching."""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import ray
from rich.console import Console

from tis_ray.config import ENSEMBLE, Recipe, load_recipe
from tis_ray.errors import TisRayError
from tis_ray.formats.training_sizes import TRAINING_SIZES
from tis_ray.models.checkpoint import CATEGORIES, METRICS, RECIPE, WEIGHTS
from tis_ray.training import run_folder
from tis_ray.training.order import chained
from tis_ray.training.trainer import train

MANIFEST = "manifest.json"
FILES = (WEIGHTS, RECIPE, CATEGORIES, METRICS)
OPTIONAL_FILES = (TRAINING_SIZES, ENSEMBLE)  # no sizes of a training set without any object, no ensemble in old ones


def main(*, in_a_chain: bool = False) -> int:
    """Parse the command line, train, and print the checkpoint folders; 2 for a user's mistake.

    in_a_chain: each recipe but the first begins from the checkpoint that the one before it ends with
    """
    how = "one after the other, each from the checkpoint of the one before" if in_a_chain else "side by side"
    parser = argparse.ArgumentParser(description=f"Train recipes {how}, as one Ray job.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML file, or name of a shipped recipe")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a key of all recipes")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted runs")
    parser.add_argument("--leave-for", metavar="JOB", help="lay the checkpoints beside the logs, to be fetched")
    arguments = parser.parse_args()
    try:
        recipes = [load_recipe(recipe, arguments.set) for recipe in arguments.recipes]
        if in_a_chain:
            recipes = chained([run_folder.absolute(at_home(recipe)) for recipe in recipes])
        folders = run(recipes, resume=arguments.resume, leave_for=arguments.leave_for)
    except (TisRayError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for folder in folders:
        print(f"checkpoint: {folder}")
    return 0


def run(recipes: Sequence[Recipe], *, resume: bool, leave_for: str | None) -> list[Path]:
    """Train; the checkpoint folders.

    With `leave_for`, the name of the job that this process is, they are left for fetching too.
    """
    recipes = [at_home(recipe) for recipe in recipes]
    console = Console(highlight=False, soft_wrap=True)
    if leave_for is None:
        return train(recipes, resume=resume, console=console)
    context: Any = ray.init(log_to_driver=False, logging_level=logging.ERROR)  # the cluster's, by RAY_ADDRESS
    try:
        folders = train(recipes, resume=resume, console=console)
        place = Path(context.address_info["session_dir"]) / "logs" / shelf(leave_for)
        for recipe, folder in zip(recipes, folders, strict=True):
            lay_out(folder, place / recipe.name)
    finally:
        ray.shutdown()
    return folders


def at_home(recipe: Recipe) -> Recipe:
    """The recipe with the folder for its runs and its start in this machine's home, where they begin with `~`."""
    start = recipe.start
    if start is not None:
        start = start.model_copy(update={"checkpoint": start.checkpoint.expanduser()})
    return recipe.model_copy(update={"output": recipe.output.expanduser(), "start": start})


def shelf(job: str) -> str:
    """The folder beside the logs where a job leaves its checkpoints."""
    return f"tis_ray_{job}"


def lay_out(checkpoint: Path, place: Path) -> None:
    """Link the files of a checkpoint into `place`, with a list of their sizes and SHA-256 sums."""
    place.mkdir(parents=True, exist_ok=True)
    listed = {}
    there = [name for name in OPTIONAL_FILES if (checkpoint / name).is_file()]
    for file in (checkpoint / name for name in (*FILES, *there)):
        link = place / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
        listed[file.name] = describe(file)
    (place / MANIFEST).write_bytes(orjson.dumps(listed))


def describe(file: Path) -> dict[str, int | str]:
    """Size in bytes and SHA-256 of a file."""
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
