"""Menus: a folder of modules is a list of choices, and the module's name is the option's name.

Adding a backbone or a fusion rule is adding one file that exports the folder's agreed function. Its
keyword-only arguments are the options a config may set, checked against their annotations.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from tis_ray.errors import ConfigError


def choices(package: str) -> list[str]:
    """The names that may be chosen from a menu folder, e.g. `choices("tis_ray.fusion.rules")`."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no menu folder {package}")
    folder = Path(spec.submodule_search_locations[0])
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def pick(package: str, function: str, name: str, *, key: str) -> Callable[..., Any]:
    """The function `function` of the module `name` in the folder `package`.

    `key` is the config key under which the name was found; it stands in the message of the `ConfigError`
    that an unknown name raises, beside the list of choices.
    """
    known = choices(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"{key}: expected one of {', '.join(known)}; got '{name}'{hint}")
    found: Callable[..., Any] = getattr(import_module(f"{package}.{name}"), function)
    return found


def check_options(function: Callable[..., Any], options: Mapping[str, Any], *, key: str) -> dict[str, Any]:
    """Validate `options` against the keyword-only arguments of `function`; returns them converted.

    Raises `ConfigError` naming `key.option` for an unknown option or a value of the wrong type.
    """
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)
    try:
        checked = model.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(explain(error, key=key, allowed=sorted(fields))) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def explain(error: ValidationError, *, key: str = "", allowed: list[str] | None = None) -> str:
    """One line for the first problem of a pydantic error: key path, what was expected, what came."""
    problem = error.errors(include_url=False)[0]
    path = ".".join([key, *map(str, problem["loc"])] if key else map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        unknown = str(problem["loc"][-1])
        near = difflib.get_close_matches(unknown, allowed or [], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        known = f"; the keys here are {', '.join(allowed)}" if allowed else ""
        return f"{path}: unknown key{hint}{known}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path}: this key is required"
    if not path:  # a check of the whole section: its message names key and value
        return message
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    came = "" if "; got " in message else f"; got {_short(problem['input'])}"  # a check of a section says it itself
    return f"{path}: {message}{came}{more}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
