"""The class table of a checkpoint directory, readable without PyTorch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson

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
