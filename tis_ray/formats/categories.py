"""Class tables: that of a checkpoint directory, readable without PyTorch, and how tables are joined by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.instances import Categories


def read_categories(folder: Path) -> Categories:
    """The classes a checkpoint was trained on. Raises `CheckpointError` where `categories.json` is missing or wrong."""
    path = folder / "categories.json"
    try:
        return Categories.from_json(orjson.loads(path.read_bytes()))
    except OSError:
        raise CheckpointError(f"checkpoint {folder}: expected a folder with {path.name}; there is none") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {folder}: {path.name}: {error}") from None


def join_categories(tables: Sequence[tuple[str, Categories]]) -> Categories:
    """The one table of several members, `(name, table)` each: the first one, if all hold the same class names.

    Where it has no training counts, they are those of the first table that has some.
    Raises `ConfigError` naming both tables where they differ.
    """
    (first_name, first), *others = tables
    for name, table in others:
        if set(table.names) != set(first.names):
            raise ConfigError(
                f"members.{name}: expected the classes of members.{first_name} ({', '.join(first.names)}); "
                f"got {', '.join(table.names)}"
            )
    counted = next((table for _, table in tables if table.counts), first)
    if first.counts or not counted.counts:
        return first
    return replace(first, counts=tuple(counted.counts[counted.names.index(name)] for name in first.names))


def class_map(found: Categories, known: Categories, *, key: str = "categories") -> NDArray[np.int32]:
    """For each class of `found` its label in `known`, joined by name; -1 where `known` lacks it.

    Raises `ConfigError` at `key` naming both tables where they share no name.
    """
    labels = {name: label for label, name in enumerate(known.names)}
    mapped = np.array([labels.get(name, -1) for name in found.names], dtype=np.int32)
    if (mapped < 0).all():
        raise ConfigError(
            f"{key}: expected some of the ensemble's ({', '.join(found.names)}); got {', '.join(known.names)}"
        )
    return mapped
