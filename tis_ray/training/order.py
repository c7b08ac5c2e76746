"""Several recipes in one command: which begins from the checkpoint that another one's run ends with."""

from collections.abc import Mapping, Sequence

from tis_ray.config import Recipe, StartSection
from tis_ray.errors import ConfigError
from tis_ray.training.run_folder import FINISHED


def bases(recipes: Sequence[Recipe]) -> dict[str, str]:
    """The recipe from whose run each one begins, by names, of those that begin from one of the others.

    Paths are absolute. Raises `ConfigError` for runs that wait for each other, and for another folder of such a run
    than the one that it ends with.
    """
    found = {}
    for recipe in recipes:
        start = None if recipe.start is None else recipe.start.checkpoint
        base = next((one for one in recipes if start is not None and start.is_relative_to(one.run_dir)), None)
        if base is None:
            continue
        if start != base.run_dir / FINISHED:
            raise ConfigError(
                f"start.checkpoint: expected {base.run_dir / FINISHED}, which is there once {base.name} has ended; "
                f"got {start}"
            )
        found[recipe.name] = base.name
    _check_circles(found)
    return found


def chained(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes, each but the first beginning from the checkpoint that the one before it ends with."""
    done = list(recipes[:1])
    for recipe in recipes[1:]:
        checkpoint = done[-1].run_dir / FINISHED
        start = StartSection(checkpoint=checkpoint) if recipe.start is None else recipe.start
        done.append(recipe.model_copy(update={"start": start.model_copy(update={"checkpoint": checkpoint})}))
    return done


def moved(recipes: Sequence[Recipe], outputs: Mapping[str, Recipe]) -> list[Recipe]:
    """The recipes of `outputs`, by name, whose starts follow where the runs of `recipes` that they begin from went."""
    began = bases(recipes)
    done = []
    for name, recipe in outputs.items():
        if name in began:
            assert recipe.start is not None
            checkpoint = outputs[began[name]].run_dir / FINISHED
            recipe = recipe.model_copy(update={"start": recipe.start.model_copy(update={"checkpoint": checkpoint})})
        done.append(recipe)
    return done


def _check_circles(found: Mapping[str, str]) -> None:
    for name in found:
        chain = [name]
        while chain[-1] in found:
            chain.append(found[chain[-1]])
            if chain[-1] == name:
                raise ConfigError(f"start.checkpoint: expected runs in some order; got {' from '.join(chain)}")
            if len(chain) > len(found):  # a circle that does not lead back here is found from its own
                break
