"""The model version: it tells whether two answers come from the same models."""

import hashlib
from pathlib import Path

from tis_ray.config import Ensemble
from tis_ray.formats.training_sizes import TRAINING_SIZES


def model_version(checkpoints: dict[str, Path]) -> str:
    """Twelve hexadecimal digits that change with any member's name, weights, recipe, classes or training sizes."""
    digest = hashlib.sha256()
    for name, folder in sorted(checkpoints.items()):
        sizes = [TRAINING_SIZES] if (folder / TRAINING_SIZES).exists() else []
        for file in ("model.safetensors", "recipe.yaml", "categories.json", *sizes):
            with (folder / file).open("rb") as stream:
                digest.update(f"{name}/{file}".encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def version_of(ensemble: Ensemble) -> str:
    """The model version of an ensemble's checkpoints as they are now."""
    return model_version({name: member.checkpoint for name, member in ensemble.members.items()})
