"""Where data may lie: a path of this machine, or a URL of any file system that fsspec has a package for."""

import re
import warnings
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from tis_ray.errors import ConfigError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCAL = ("file", "local")


def place(value: Path | str) -> Path:
    """The path that a text names. What lies behind a URL, as `s3://bucket/file`, is a `UPath`, which is asked as a
    `Path` is; `file://` is a path of this machine. Other values are returned as they are.

    Raises `ConfigError` for a file system that is unknown or needs a package that is not installed.
    """
    if not isinstance(value, str):
        return value
    found = _URL.match(value)
    if found is None:
        return Path(value)
    protocol = found[1].lower()
    if protocol in _LOCAL:
        return Path(unquote(urlsplit(value).path))
    _check_file_system(protocol, value)
    from upath import UPath

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no class of its own for a file system
        return cast(Path, UPath(value))


def is_remote(path: Path) -> bool:
    """Whether a path is a URL."""
    return not isinstance(path, Path)


def absolute(path: Path) -> Path:
    """An absolute path; a URL is one."""
    return path if is_remote(path) else path.resolve()


def _check_file_system(protocol: str, url: str) -> None:
    from fsspec import get_filesystem_class
    from fsspec.registry import known_implementations

    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        raise ConfigError(
            f"expected a path, or a URL whose file system's package is installed; got {url} ({error})"
        ) from None
    except ValueError:
        known = ", ".join(name for name in ("s3", "gs", "abfs", "hdfs", "https") if name in known_implementations)
        raise ConfigError(f"expected a path, or a URL that fsspec knows ({known}, ...); got {url}") from None


def _read(value: Any) -> Path:
    if isinstance(value, str | Path):
        return place(value)
    if type(value).__module__.startswith("upath"):
        return cast(Path, value)
    raise ValueError("expected a path or a URL")


def _on_this_machine(value: Any) -> Any:
    if isinstance(value, str) and (found := _URL.match(value)):
        if found[1].lower() in _LOCAL:
            return place(value)
        raise ValueError(f"expected a path of this machine or of storage mounted on it; got {value}")
    return value


DataPath = Annotated[Path, PlainValidator(_read), PlainSerializer(str, when_used="json")]
LocalPath = Annotated[Path, BeforeValidator(_on_this_machine)]
