"""The parts that a recipe chooses from, of its detector and of its data, read from their files: no network is built.

The list needs no import of a part: its summary is the first paragraph of the module's docstring. Only what is asked
for by name is imported, for its options.
"""

import ast
import difflib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from tis_ray.config import Choice, Recipe
from tis_ray.errors import ConfigError
from tis_ray.inspection.schemas import in_words
from tis_ray.menu import choices


@dataclass(frozen=True, slots=True)
class Menu:
    """A folder of parts and the key of a recipe under which one of them is chosen; `also`, other keys like it."""

    folder: str
    key: str
    also: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The menu's module, whose submodules are its parts."""
        home = "models" if self.key.startswith("detector.") else "data"
        return f"tis_ray.{home}.{self.folder}"

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys under which its parts are chosen."""
        return (self.key, *self.also)


MENUS = (
    Menu("backbones", "detector.backbone"),
    Menu("necks", "detector.neck"),
    Menu("anchors", "detector.anchors"),
    Menu("anchor_matching", "detector.rpn.matching"),
    Menu("roi_sampling", "detector.box.sampling"),
    Menu("roi_pooling", "detector.mask.pooling", also=("detector.box.pooling",)),
    Menu("box_heads", "detector.box.head"),
    Menu("classification", "detector.box.classification"),
    Menu("mask_heads", "detector.mask.head"),
    Menu("mask_losses", "detector.mask.loss"),
    Menu("sampling", "data.sampling"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One choice of a menu; `default` where a recipe that says nothing gets it."""

    name: str
    menu: Menu
    default: bool
    summary: str

    def to_json(self) -> dict[str, Any]:
        """Name, menu, key, other keys, default and summary."""
        return {
            "name": self.name,
            "menu": self.menu.folder,
            "key": self.menu.key,
            "also": list(self.menu.also),
            "default": self.default,
            "summary": self.summary,
        }


@dataclass(frozen=True, slots=True)
class Option:
    """What may be set of a part: its values as JSON Schema and in words, and its default as in YAML."""

    name: str
    schema: dict[str, Any]
    values: str
    default: str


@dataclass(frozen=True, slots=True)
class Details:
    """A part with the docstrings of its module and of its function, and its options."""

    part: Part
    about: str
    builds: str
    options: tuple[Option, ...]

    def to_json(self) -> dict[str, Any]:
        """The part with `about`, `builds` and `options`, whose defaults are values and whose types are JSON Schema."""
        options = [
            {"name": one.name, "type": one.values, "schema": one.schema, "default": json.loads(one.default)}
            for one in self.options
        ]
        return {**self.part.to_json(), "about": self.about, "builds": self.builds, "options": options}


def list_parts() -> list[Part]:
    """Every part of every menu, menu by menu in the order in which a detector is put together, then those of data."""
    return [
        Part(name, menu, name == _default_of(menu.key), _summary(menu, name))
        for menu in MENUS
        for name in choices(menu.package)
    ]


def find_parts(name: str) -> list[Part]:
    """The parts of that name, of whatever menus; all of a menu for its own name or its key.

    Raises `ConfigError` with the nearest names for one that there is not.
    """
    parts = list_parts()
    found = [part for part in parts if name in (part.name, part.menu.folder, *part.menu.keys)]
    if not found:
        known = sorted({known for part in parts for known in (part.name, part.menu.folder)})
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
        raise ConfigError(f"part: expected a name that `tis-ray models` lists; got '{name}'{hint}")
    return found


def details(part: Part) -> Details:
    """What may be set of a part. Imports the part's module."""
    module = import_module(f"{part.menu.package}.{part.name}")
    return Details(part, inspect.getdoc(module) or "", inspect.getdoc(module.build) or "", tuple(_options(module)))


def _options(module: ModuleType) -> Iterator[Option]:
    for name, parameter in inspect.signature(module.build).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            adapter = TypeAdapter(parameter.annotation)
            schema = adapter.json_schema()
            default = json.dumps(adapter.dump_python(parameter.default, mode="json"))
            yield Option(name, schema, in_words(schema), default)


def _summary(menu: Menu, name: str) -> str:
    """First paragraph of the module's docstring, without importing it."""
    spec = find_spec(menu.package)
    assert spec is not None
    assert spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / f"{name}.py").read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def _default_of(key: str) -> str | None:
    """The name that the config has where a recipe leaves `key` out; None where a recipe must say."""
    section: type[BaseModel] = Recipe
    *parents, last = key.split(".")
    for parent in parents:
        annotation = section.model_fields[parent].annotation
        kinds = get_args(annotation) or (annotation,)  # a section that may be left out is one or nothing
        section = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    default = section.model_fields[last].default
    return default.name if isinstance(default, Choice) else None
