"""What a run is bound to: that with which it began, and one process at a time."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from tis_ray.errors import ConfigError

LOCK = "lock"


def digest(about: Mapping[str, Any]) -> str:
    """A short name of what decides a run's results."""
    return hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def check_same(path: Path, began: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where the run in the folder `path` began with something else, naming the first key that
    differs."""
    before, after = dict(_leaves(dict(began))), dict(_leaves(orjson.loads(orjson.dumps(about))))
    for key in [*after, *before]:
        was, came = (repr(leaves[key]) if key in leaves else "nothing" for leaves in (before, after))
        if was != came:
            raise ConfigError(
                f"{key}: expected {was}, with which the run in {path} began; got {came} "
                "(go on as it began, or begin anew: with --fresh, or delete the folder)"
            )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run's folder, made if need be, against other processes. Raises `ConfigError` while another one has it.

    A process that dies lets go of it. File systems without locks are trusted.
    """
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{path}: another process is writing this run; wait until it has ended") from None
        except OSError:  # no locks here
            pass
        yield
    finally:
        os.close(descriptor)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield ".".join(path), value
