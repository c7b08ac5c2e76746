"""Train recipe files on the cluster that RAY_ADDRESS names and tell on stdout how far each run is, as JSON lines."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tis_ray.config import load_recipe
from tis_ray.errors import TisRayError
from tis_ray.training.progress import RunProgress
from tis_ray.training.trainer import train


def tell(progress: RunProgress) -> None:
    print(json.dumps(asdict(progress)), flush=True)


def main() -> int:
    files = [Path(argument) for argument in sys.argv[1:] if argument != "--resume"]
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        train([load_recipe(file) for file in files], resume="--resume" in sys.argv, on_progress=tell, console=console)
    except TisRayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
