"""Parts of a detector by name: the menus' modules, with their options checked."""

from typing import Any

from tis_ray.config import Choice
from tis_ray.menu import check_options, pick


def part(folder: str, choice: Choice, *inputs: object, key: str) -> Any:
    """What the module `choice.name` of the menu `folder` builds of `inputs` and the choice's options.

    Raises `ConfigError` naming `key` for an unknown name or option.
    """
    build = pick(f"tis_ray.models.{folder}", "build", choice.name, key=key)
    return build(*inputs, **check_options(build, choice.options, key=f"{key}.{choice.name}"))
