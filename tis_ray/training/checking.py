"""What would end a run before its first step, found in the driver: no worker has to be waited for to hear of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tis_ray.config import Recipe
from tis_ray.data.dataset import check_files
from tis_ray.data.sampling import check_sampling
from tis_ray.errors import ConfigError, TisRayError
from tis_ray.formats.categories import read_categories
from tis_ray.formats.opening import open_dataset
from tis_ray.instances import Categories
from tis_ray.models.assembly import check_parts
from tis_ray.models.checkpoint import WEIGHTS
from tis_ray.models.transfer import joined
from tis_ray.training import run_folder
from tis_ray.training.data import build_batches, read_external, read_truth, stuff_maps
from tis_ray.training.worker import missing_data


def check(recipes: Sequence[Recipe], began: Mapping[str, str], *, resume: bool) -> None:
    """Raise a `TisRayError` where a run of one of the `recipes` must not begin; what is quick to find out comes first.

    began: the recipe from whose run each one begins, by names, of those that begin from one of the others
    """
    if not recipes:
        raise ConfigError("recipes: expected at least one; got none")
    names = [recipe.name for recipe in recipes]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ConfigError(f"name: expected another for each recipe; got twice: {', '.join(doubles)}")
    several = len(recipes) > 1
    for recipe in recipes:
        with _told_apart(recipe, several=several):
            check_parts(recipe.detector)
            run_folder.check(recipe, resume=resume)
            if not run_folder.finished(recipe.run_dir):
                _check_places(recipe, begins_from_another=recipe.name in began)
    classes: dict[str, Categories] = {}
    for recipe in recipes:
        if not run_folder.finished(recipe.run_dir):
            with _told_apart(recipe, several=several):
                classes[recipe.name] = check_data(recipe)
    for recipe in recipes:
        if recipe.name in classes:
            with _told_apart(recipe, several=several):
                _check_classes(recipe, classes[recipe.name], of_start=classes.get(began.get(recipe.name, "")))


def check_data(recipe: Recipe) -> Categories:
    """Open all that `data` names but the pictures, of which it is only asked whether they are there; the classes.

    Raises what the workers would raise before their first step.
    """
    data = recipe.data
    assert data is not None
    truth = read_truth(recipe, check_images=True)
    build_batches(recipe, truth, read_external(recipe, truth, check_images=True))
    if data.val is not None:
        val = open_dataset(data.val)
        val.categories.index_map(truth.categories, key="data.val")
        check_files(val)
    return truth.categories


def _check_places(recipe: Recipe, *, begins_from_another: bool) -> None:
    if missing := missing_data(recipe):
        raise ConfigError(missing)
    check_sampling(recipe.data.sampling)
    stuff_maps(recipe)
    if _starts(recipe) and not begins_from_another and not (recipe.start.checkpoint / WEIGHTS).is_file():
        raise ConfigError(f"start.checkpoint: expected the folder of a checkpoint; got {recipe.start.checkpoint}")


def _check_classes(recipe: Recipe, classes: Categories, *, of_start: Categories | None) -> None:
    """`of_start`: those of the run that it begins from, where that is still to be made."""
    if _starts(recipe):
        joined(classes, of_start or read_categories(recipe.start.checkpoint), recipe.start.classes)


def _starts(recipe: Recipe) -> bool:
    """Whether `start` is looked at: a run with a checkpoint of its own goes on from that."""
    return recipe.start is not None and run_folder.newest(recipe.run_dir) is None


@contextmanager
def _told_apart(recipe: Recipe, *, several: bool) -> Iterator[None]:
    """Name the recipe in front of what is wrong with it, where there are others."""
    try:
        yield
    except TisRayError as error:
        if not several:
            raise
        raise type(error)(f"{recipe.name}: {error}") from error
