"""Weights of one detector for another that may have other classes and parts: what fits is taken, the rest stays."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.models.class_rows import BACKGROUND, ClassRows, class_rows
from tis_ray.models.deformable import fitted


class Transferred(NamedTuple):
    """What a transfer came to.

    copied:  how many weights were taken, of those of two or more dimensions: a bias alone fits anywhere
    kept:    modules and weights that stay as they were, by name; of a module of which nothing was taken only its name
    unknown: classes that stay as they were
    """

    copied: int
    kept: tuple[str, ...]
    unknown: tuple[str, ...]


def transfer(
    detector: nn.Module,
    categories: Categories,
    *,
    source: nn.Module,
    source_categories: Categories,
    names: Mapping[str, str | None],
) -> Transferred:
    """Copy into `detector` every weight of `source` that has the same name and shape, and class by class what has rows.

    A plain convolution's weight becomes a deformable one's as `deformable.fitted` has it, and the other way round.
    Classes are joined by name; `names` says what some are called in `source`, None for those to leave alone. Of rows
    that belong to no class those are copied that both layers have. A layer without a row for background whose source
    is a softmax takes each class's row less background's: its logit then is that of the class against background.
    Raises `ConfigError` for names of classes that either side lacks.
    """
    classes = joined(categories, source_categories, names)
    own_rows, their_rows = class_rows(detector), class_rows(source)
    own = detector.state_dict()
    theirs = fitted(source.state_dict(), own)
    taken: dict[str, Tensor] = {}
    for key, value in own.items():
        layer = key.rpartition(".")[0]
        new = None
        if key in theirs and layer in own_rows and layer in their_rows:
            new = _with_rows(value, theirs[key], own_rows[layer], their_rows[layer], classes)
        elif key in theirs and layer not in own_rows and layer not in their_rows and value.shape == theirs[key].shape:
            new = theirs[key]
        if new is not None:
            taken[key] = new
    detector.load_state_dict({**own, **taken})
    return Transferred(
        copied=sum(value.ndim > 1 for value in taken.values()),
        kept=_kept(own, taken),
        unknown=tuple(name for label, name in enumerate(categories.names) if label not in classes),
    )


def joined(categories: Categories, source: Categories, names: Mapping[str, str | None]) -> dict[int, int]:
    """Labels of classes and, for each, its label in `source`. Raises `ConfigError` for names that a table lacks."""
    for name, there in names.items():
        if name not in categories.names:
            raise ConfigError(f"start.classes: expected classes among {', '.join(categories.names)}; got '{name}'")
        if there is not None and there not in source.names:
            raise ConfigError(
                f"start.classes.{name}: expected a class of the checkpoint or null: {', '.join(source.names)}; "
                f"got '{there}'"
            )
    labels = {name: label for label, name in enumerate(source.names)}
    wanted = enumerate(names.get(name, name) for name in categories.names)
    return {label: labels[name] for label, name in wanted if name in labels}


def _with_rows(
    value: Tensor, other: Tensor, rows: ClassRows, other_rows: ClassRows, classes: Mapping[int, int]
) -> Tensor | None:
    """`value` with the rows that `other` has too; None where no row is like another or both have none in common."""
    found = value.unflatten(0, (-1, rows.width)).clone()
    given = other.unflatten(0, (-1, other_rows.width))
    pairs = [(at, other_rows.shared.index(name)) for at, name in enumerate(rows.shared) if name in other_rows.shared]
    first, other_first = len(rows.shared), len(other_rows.shared)
    class_pairs = [(first + here, other_first + there) for here, there in classes.items()]
    if found.shape[1:] != given.shape[1:] or not pairs + class_pairs:
        return None
    if other_rows.relative and BACKGROUND not in rows.shared:
        given = given - given[other_rows.shared.index(BACKGROUND)]
    to, where = torch.tensor(pairs + class_pairs, device=value.device).T
    found[to] = given.to(found.device)[where]
    return found.flatten(0, 1)


def _kept(keys: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    """The shortest names under which nothing was taken that cover all other `keys`; counters of batches are no news."""
    touched = {part for key in taken for part in _parts(key)}
    others = (key for key in keys if key not in touched and not key.endswith("num_batches_tracked"))
    return tuple(dict.fromkeys(next(part for part in _parts(key) if part not in touched) for key in others))


def _parts(key: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` of `a.b.c`."""
    names = key.split(".")
    return (".".join(names[: i + 1]) for i in range(len(names)))
