"""What the members of an ensemble have in common, read from their checkpoint folders without PyTorch."""

from tis_ray.config import Ensemble, Recipe, parse, read_yaml
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.categories import join_categories, read_categories
from tis_ray.formats.training_sizes import TrainingSizes, read_training_sizes
from tis_ray.instances import Categories


def ensemble_categories(ensemble: Ensemble) -> Categories:
    """The one class table of all members.

    Raises `CheckpointError` for a checkpoint that lacks a file and `ConfigError` where members differ in their classes:
    what they find could not be fused.
    """
    return join_categories([(name, read_categories(member.checkpoint)) for name, member in ensemble.members.items()])


def maskless_members(ensemble: Ensemble) -> frozenset[str]:
    """The members that predict no masks: without a mask branch, or with one that is there in training alone.

    Raises `CheckpointError` for a checkpoint without a recipe.
    """
    found = set()
    for name, member in ensemble.members.items():
        path = member.checkpoint / "recipe.yaml"
        try:
            mask = parse(Recipe, read_yaml(path), source=str(path)).detector.mask
        except ConfigError as error:
            raise CheckpointError(f"checkpoint {member.checkpoint}: {error}") from None
        if mask is None or mask.only_in_training:
            found.add(name)
    return frozenset(found)


def ensemble_sizes(ensemble: Ensemble) -> dict[str, TrainingSizes]:
    """The training sizes of the members whose checkpoints have them, by name.

    Raises `CheckpointError` for a file of another content.
    """
    found = {name: read_training_sizes(member.checkpoint) for name, member in ensemble.members.items()}
    return {name: sizes for name, sizes in found.items() if sizes is not None}
