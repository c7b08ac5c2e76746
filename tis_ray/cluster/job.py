"""The cluster's side of `tis-ray train --submit`: train recipes as a Ray job and leave the checkpoints for fetching."""

import argparse
import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import ray
from rich.console import Console

from tis_ray.config import ENSEMBLE, Recipe, load_recipe
from tis_ray.errors import TisRayError
from tis_ray.formats.training_sizes import TRAINING_SIZES
from tis_ray.models.checkpoint import CATEGORIES, METRICS, RECIPE, WEIGHTS
from tis_ray.training.failures import TrainingError
from tis_ray.training.trainer import train

MANIFEST = "manifest.json"
FILES = (WEIGHTS, RECIPE, CATEGORIES, METRICS)
OPTIONAL_FILES = (TRAINING_SIZES, ENSEMBLE)  # no sizes of a training set without any object, no ensemble in old ones
RETRIES, PAUSE_S = 3, 10.0


def main() -> int:
    """Parse the command line, train, and print the checkpoint folders; 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description="Train recipes side by side as one Ray job.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML file, or name of a shipped recipe")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a key of all recipes")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted runs")
    parser.add_argument("--retries", type=int, default=RETRIES, help="how often to go on after a lost node or worker")
    parser.add_argument("--leave-for", metavar="JOB", help="lay the checkpoints beside the logs, to be fetched")
    arguments = parser.parse_args()
    try:
        recipes = [load_recipe(recipe, arguments.set) for recipe in arguments.recipes]
        folders = run(recipes, resume=arguments.resume, retries=arguments.retries, leave_for=arguments.leave_for)
    except (TisRayError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for folder in folders:
        print(f"checkpoint: {folder}")
    return 0


def run(recipes: Sequence[Recipe], *, resume: bool, retries: int, leave_for: str | None) -> list[Path]:
    """Train, going on by itself up to `retries` times where a node is lost; the checkpoint folders.

    With `leave_for`, the name of the job that this process is, they are left for fetching too.
    """
    recipes = [recipe.model_copy(update={"output": recipe.output.expanduser()}) for recipe in recipes]
    if leave_for is None:
        return _train(recipes, resume=resume, retries=retries)
    context = ray.init(log_to_driver=False, logging_level=logging.ERROR)  # the cluster's, by RAY_ADDRESS
    try:
        folders = _train(recipes, resume=resume, retries=retries)
        place = Path(context.address_info["session_dir"]) / "logs" / shelf(leave_for)
        for recipe, folder in zip(recipes, folders, strict=True):
            lay_out(folder, place / recipe.name)
    finally:
        ray.shutdown()
    return folders


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


def _train(recipes: Sequence[Recipe], *, resume: bool, retries: int) -> list[Path]:
    console = Console(highlight=False, soft_wrap=True)
    for left in range(retries, -1, -1):
        try:
            return train(recipes, resume=resume, console=console)
        except TrainingError as error:
            if not left:
                raise
            print(f"{error}; going on from the last checkpoint, {left} more times at most", flush=True)
            time.sleep(PAUSE_S)
            resume = True
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main())
