"""Config files in and out: YAML, `a.b=value` overrides, and one clear line for what is wrong."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tis_ray.config.ensemble import Ensemble
from tis_ray.config.recipe import Recipe
from tis_ray.config.section import Section
from tis_ray.errors import ConfigError
from tis_ray.menu import explain

Model = TypeVar("Model", bound=BaseModel)
SHIPPED_RECIPES = Path(__file__).parents[1] / "recipes"
SHIPPED_ENSEMBLES = Path(__file__).parents[1] / "ensembles"
ENSEMBLE = "ensemble.yaml"  # in a checkpoint folder: what asks for that member alone


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. A bare name, as `tiny_resnet18`, means the recipe of that name that tis-ray ships.

    `overrides` are `a.b=value` texts; paths in the file are relative to the current folder.
    """
    path = _shipped(Path(path), SHIPPED_RECIPES, "recipe: expected a YAML file") or Path(path)
    return parse(Recipe, read_yaml(path), overrides, source=str(path))


def load_ensemble(path: Path | str, overrides: Sequence[str] = ()) -> Ensemble:
    """Read an ensemble; paths of checkpoints and tokens in the file are relative to the file's own folder.

    A folder, as a checkpoint's, stands for the `ensemble.yaml` in it. A bare name, as `coco_2019`, means the ensemble
    of that name that tis-ray ships, whose paths are relative to the current folder.
    """
    path = Path(path)
    if shipped := _shipped(path, SHIPPED_ENSEMBLES, "ensemble: expected a YAML file, a checkpoint folder"):
        return parse(Ensemble, read_yaml(shipped), overrides, source=str(shipped)).located_in(Path())
    if path.is_dir():
        path = path / ENSEMBLE
    return parse(Ensemble, read_yaml(path), overrides, source=str(path)).located_in(path.parent)


def _shipped(path: Path, folder: Path, expected: str) -> Path | None:
    """The file in `folder` that a bare name stands for; None for a path. Raises `ConfigError` for an unknown name."""
    if path.exists() or path.parent != Path() or path.suffix:
        return None
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if path.name not in names:
        raise ConfigError(f"{expected} or one of {', '.join(names)}; got '{path}'")
    return folder / f"{path.name}.yaml"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `ConfigError` where there is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable YAML file; got {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected YAML; got {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values; got {type(content).__name__}")
    return content


def parse(model: type[Model], content: dict[str, Any], overrides: Sequence[str] = (), *, source: str) -> Model:
    """Validate `content`, with `a.b=value` overrides applied, as `model`. Raises `ConfigError`."""
    content = deepcopy(content)
    for override in overrides:
        _override(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error, allowed=_allowed(model, error))}") from None


def dump(section: Section) -> dict[str, Any]:
    """A section as plain YAML values that validate to the same section."""
    return section.model_dump(mode="json")


def dump_views(ensemble: Ensemble) -> dict[str, Any]:
    """An ensemble as the file that a person would write: its members' views, and what is not the default."""
    content = ensemble.model_dump(mode="json", exclude_defaults=True, exclude={"fusion": {"preset"}})
    for name, member in ensemble.members.items():
        views = {"scales": list(member.scales), "max_long_edge": member.max_long_edge, "flip": member.flip}
        others = {key: value for key, value in content["members"][name].items() if key in ("crops", "groups")}
        content["members"][name] = {"checkpoint": str(member.checkpoint), **views, **others}
    return {key: value for key, value in content.items() if value}


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set: expected key.path=value; got '{override}'")
    *parents, last = key.split(".")
    node: Any = content
    for parent in parents:
        if isinstance(node, dict) and isinstance(node.get(parent), str):
            node[parent] = {node[parent]: {}}  # `backbone: resnet18` gains options
        if isinstance(node, dict) and node.get(parent) is None:
            node[parent] = {}  # a key without a value, as `fusion:`
        node = node[parent] if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"--set {key}: '{parent}' is not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: expected a YAML value; got '{text}'") from None


def _allowed(model: type[BaseModel], error: ValidationError) -> list[str] | None:
    """The keys of the section, or of the alternative sections, in which the first problem lies."""
    sections: list[type[BaseModel]] = [model]
    for step in error.errors(include_url=False)[0]["loc"][:-1]:
        fields = [section.model_fields[str(step)] for section in sections if str(step) in section.model_fields]
        if fields:
            sections = [inner for field in fields for inner in _sections_of(field.annotation)]
    return sorted({key for section in sections for key in section.model_fields}) or None


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _sections_of(argument)]
