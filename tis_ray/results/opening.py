"""Which results files are fused, and how: a YAML, or the files themselves."""

from collections.abc import Sequence
from pathlib import Path

from tis_ray.config import ResultsFiles, parse, read_yaml
from tis_ray.config.results import by_stem
from tis_ray.errors import ConfigError

_YAML = (".yaml", ".yml")


def open_files(paths: Sequence[Path | str], overrides: Sequence[str] = ()) -> ResultsFiles:
    """What one YAML file says, whose paths start at its own folder, or results files named by their stems.

    `overrides` are `a.b=value` texts. Raises `ConfigError` for a YAML file among others, and for what is wrong in it.
    """
    described = [Path(path) for path in paths if Path(path).suffix.lower() in _YAML]
    if not described:
        return parse(ResultsFiles, {"results": by_stem(paths)}, overrides, source="results files").located_in(Path())
    path = described[0]
    if len(paths) > 1:
        raise ConfigError(f"results: expected results files, or one YAML that lists them; got {path} and others")
    return parse(ResultsFiles, read_yaml(path), overrides, source=str(path)).located_in(path.parent)
