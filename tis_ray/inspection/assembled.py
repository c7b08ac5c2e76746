"""What an assembled detector consists of: the choices of its recipe, and how many weights each part has."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tis_ray.config import Choice, DetectorSection, Recipe, Section
from tis_ray.config.weights import is_weight_file
from tis_ray.inspection.dry_run import PARTS


@dataclass(frozen=True, slots=True)
class Chosen:
    """A key of the recipe, the name chosen under it, empty for a section, and what the recipe sets there."""

    key: str
    name: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of one part: those that training changes, and those that it leaves or only keeps count with.

    The latter are parameters without gradient, constants of frozen normalisation and running statistics.
    """

    part: str
    trained: int
    others: int
    num_bytes: int


def choices_of(section: DetectorSection) -> list[Chosen]:
    """Every choice of a `detector` section in its order, defaults too, and of other keys those that the recipe sets."""
    return list(_choices(section, "detector"))


def _choices(section: Section, key: str) -> Iterator[Chosen]:
    given = {
        name: value
        for name, value in section.model_dump(mode="json").items()
        if name in section.model_fields_set and not isinstance(getattr(section, name), (Choice, Section, str))
    }
    nothing = {name for name, value in given.items() if value is None}
    plain = {name: value for name, value in given.items() if value is not None}
    if plain:
        yield Chosen(key, "", plain)
    for name, value in section:
        if isinstance(value, Choice):
            yield Chosen(f"{key}.{name}", value.name, value.options)
        elif isinstance(value, str):
            yield Chosen(f"{key}.{name}", value, {})
        elif isinstance(value, Section):
            yield from _choices(value, f"{key}.{name}")
        elif name in nothing:
            yield Chosen(f"{key}.{name}", "none", {})


def sizes_of(detector: nn.Module) -> list[Size]:
    """The size of each part that there is, in the order in which they are at work."""
    kept = detector.state_dict(keep_vars=True)
    found: dict[str, list[Tensor]] = {}
    for name, tensor in kept.items():
        fitting = [part for part, module in PARTS.items() if name.startswith(f"{module}.")]
        if fitting and tensor.is_floating_point():
            found.setdefault(fitting[-1], []).append(tensor)
    return [_size(part, found[part]) for part in PARTS if part in found]


def _size(part: str, tensors: list[Tensor]) -> Size:
    total = sum(tensor.numel() for tensor in tensors)
    trained = sum(tensor.numel() for tensor in tensors if tensor.requires_grad)
    return Size(part, trained, total - trained, sum(tensor.nbytes for tensor in tensors))


def weights_notes(recipe: Recipe) -> list[str]:
    """What is to be said of the files that training would begin with, none of which is read here."""
    notes = []
    weights = recipe.detector.backbone.options.get("weights")
    if weights is not None and not is_weight_file(weights):
        notes.append(f"weights: {weights} is a library's name, and fetched when training begins")
    elif weights is not None and not Path(weights).is_file():
        notes.append(f"weights: {weights} is not there; training needs it, this does not")
    if recipe.start is not None and not recipe.start.checkpoint.is_dir():
        notes.append(f"start: {recipe.start.checkpoint} is not there; training needs it, this does not")
    return notes
