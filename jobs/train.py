"""Train recipes as a Ray job: `ray job submit --working-dir . -- python jobs/train.py recipe.yaml [...]`.

Runs of one job train side by side. Recipes' paths must lead to storage that every node shares.
"""

import argparse
import sys

from rich.console import Console

from tis_ray.config import load_recipe
from tis_ray.errors import TisRayError
from tis_ray.training.trainer import train


def main() -> int:
    """Parse the command line, train, and print the checkpoint folders; 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML file, or name of a shipped recipe")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a key of all recipes")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted runs")
    arguments = parser.parse_args()
    try:
        recipes = [load_recipe(recipe, arguments.set) for recipe in arguments.recipes]
        for folder in train(recipes, resume=arguments.resume, console=Console()):
            print(folder)
    except (TisRayError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
