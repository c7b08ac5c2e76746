"""Checkpoint directories: a trained detector with all that is needed to rebuild it. Nothing is ever unpickled.

`model.safetensors` weights, `recipe.yaml` the resolved recipe, `categories.json` the classes in COCO's form with their
training instances, `metrics.json` what validation measured; where it was trained here, `training_sizes.json`, how large
its objects were; and `ensemble.yaml`, by which this member alone is served, with the views of the recipe's `test`.
"""

from pathlib import Path
from typing import Any

import orjson
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tis_ray.config import ENSEMBLE, Recipe, dump, dump_views, parse, read_yaml
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.categories import read_categories
from tis_ray.formats.training_sizes import TRAINING_SIZES, TrainingSizes
from tis_ray.instances import Categories
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.models.detector import Detector

WEIGHTS, RECIPE, CATEGORIES, METRICS = "model.safetensors", "recipe.yaml", "categories.json", "metrics.json"


def save(
    folder: Path,
    *,
    detector: Detector,
    recipe: Recipe,
    categories: Categories,
    metrics: dict[str, Any],
    sizes: TrainingSizes | None = None,
) -> None:
    """Write the files into `folder`, which is made if need be.

    Training `sizes` and the ensemble of this member are left out where they are not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in detector.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / RECIPE).write_text(yaml.safe_dump(dump(recipe), sort_keys=False))
    (folder / CATEGORIES).write_bytes(orjson.dumps(categories.to_json(), option=orjson.OPT_INDENT_2))
    (folder / METRICS).write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
    if sizes is not None:
        (folder / TRAINING_SIZES).write_bytes(orjson.dumps(sizes.to_json(), option=orjson.OPT_INDENT_2))
    if (ensemble := recipe.ensemble()) is not None:
        (folder / ENSEMBLE).write_text(yaml.safe_dump(dump_views(ensemble), sort_keys=False))


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[Detector, Recipe, Categories]:
    """The detector in evaluation mode on `device`, its recipe and its classes.

    Raises `CheckpointError` where a file is missing or the weights do not fit the recipe.
    """
    categories = read_categories(folder)
    try:
        recipe = parse(Recipe, read_yaml(folder / RECIPE), source=str(folder / RECIPE))
        detector = build_detector(without_weights(recipe.detector), categories)
    except ConfigError as error:
        raise CheckpointError(f"checkpoint {folder}: {error}") from None
    _load_weights(detector, folder)
    return detector.to(device).eval(), recipe, categories


def _load_weights(detector: Detector, folder: Path) -> None:
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder}: expected weights in {WEIGHTS}; got {error}") from None
    own = detector.state_dict()
    for key in sorted(own.keys() | state.keys()):
        expected = tuple(own[key].shape) if key in own else "nothing"
        came = tuple(state[key].shape) if key in state else "nothing"
        if expected != came:
            raise CheckpointError(
                f"checkpoint {folder}: {WEIGHTS} does not fit {RECIPE} and {CATEGORIES}: "
                f"{key} should be {expected}; got {came}"
            )
    detector.load_state_dict(state)
