"""What the members of an ensemble have in common, read from their checkpoint folders without PyTorch."""

from tis_ray.config import Ensemble, Recipe, parse, read_yaml
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.categories import join_categories, read_categories
from tis_ray.formats.training_sizes import TrainingSizes, read_training_sizes
from tis_ray.instances import Categories


def ensemble_categories(ensemble: Ensemble) -> Categories:
    """The one class table of all members.

    Raises `CheckpointError` for a checkpoint that lacks a file and `ConfigError` where members differ in their classes
    or in whether they predict masks: what they find could not be fused.
    """
    categories = join_categories(
        [(name, read_categories(member.checkpoint)) for name, member in ensemble.members.items()]
    )
    masked: dict[bool, str] = {}
    for name, member in ensemble.members.items():
        path = member.checkpoint / "recipe.yaml"
        try:
            recipe = parse(Recipe, read_yaml(path), source=str(path))
        except ConfigError as error:
            raise CheckpointError(f"checkpoint {member.checkpoint}: {error}") from None
        masked.setdefault(recipe.detector.mask is not None, name)
    if len(masked) > 1:
        raise ConfigError(
            f"members.{masked[False]}: expected a member that predicts masks, as members.{masked[True]} does; "
            "got one whose recipe has no mask branch"
        )
    return categories


def ensemble_sizes(ensemble: Ensemble) -> dict[str, TrainingSizes]:
    """The training sizes of the members whose checkpoints have them, by name.

    Raises `CheckpointError` for a file of another content.
    """
    found = {name: read_training_sizes(member.checkpoint) for name, member in ensemble.members.items()}
    return {name: sizes for name, sizes in found.items() if sizes is not None}
