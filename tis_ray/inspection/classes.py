"""How many classes a recipe's detector tells apart, which the recipe leaves to its data."""

from tis_ray.config import CocoFolder, Recipe, WadFolder
from tis_ray.config.data_path import is_remote
from tis_ray.errors import DataError
from tis_ray.formats.coco_checks import check_categories
from tis_ray.formats.json_stream import JsonStream
from tis_ray.formats.wad_classes import EVALUATED, WITH_RIDER
from tis_ray.instances import Categories

OF_COCO = 80


def classes_of(recipe: Recipe, number: int | None = None) -> tuple[Categories, str]:
    """Class table and where it is from: `number` nameless ones, the data's where they are there, or COCO's 80.

    How often each was seen in training is not known: no part's shape depends on it.
    """
    data = None if recipe.data is None else recipe.data.train
    if number is not None:
        return _nameless(number), f"{number} classes"
    if isinstance(data, WadFolder):
        categories = WITH_RIDER if data.rider else EVALUATED
        return categories, f"{len(categories)} classes of WAD"
    if data is None or is_remote(data.annotations) or not data.annotations.is_file():
        missing = "no data" if data is None else f"{data.annotations} is not there"
        return _nameless(OF_COCO), f"{OF_COCO} classes, as COCO has ({missing}; see --classes)"
    categories = _listed(data)
    return categories, f"{len(categories)} classes of {data.annotations}"


def _nameless(number: int) -> Categories:
    ids = tuple(range(1, number + 1))
    return Categories(ids, tuple(f"class {id_}" for id_ in ids))


def _listed(data: CocoFolder) -> Categories:
    """The classes of a COCO file, of which all the rest is passed over."""
    with JsonStream(data.annotations) as stream:
        for key in stream.members():
            if key == "categories":
                entries = stream.value()
                check_categories(data.annotations, entries)
                return Categories.from_json(entries)
            stream.skip()
    raise DataError(f"{data.annotations}: categories: expected a list; got nothing")
