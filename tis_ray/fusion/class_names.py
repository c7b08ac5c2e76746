"""Classes that a fusion section names, looked up in the ensemble's table."""

import difflib
from collections.abc import Sequence

from tis_ray.errors import ConfigError

_MOST_NAMES = 20  # that fit into a message


def label_of(name: str, class_names: Sequence[str], *, key: str) -> int:
    """The label of a class. Raises `ConfigError` at `key`, with the choices or the nearest one, for an unknown name."""
    if name in class_names:
        return class_names.index(name)
    few = len(class_names) <= _MOST_NAMES
    known = ", ".join(class_names) if few else f"the ensemble's {len(class_names)} classes"
    near = difflib.get_close_matches(name, class_names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"{key}: expected some of {known}; got '{name}'{hint}")
