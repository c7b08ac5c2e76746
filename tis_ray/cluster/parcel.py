"""What travels to a cluster with a job: the tis-ray that runs here, the resolved recipes, and a working folder's code.

Recipes' data stays where it is, and so does whatever else is large or private.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

import tis_ray
from tis_ray.config import Recipe, dump
from tis_ray.errors import ConfigError

logger = logging.getLogger(__name__)

RECIPES = "tis_ray_recipes"
MAX_BYTES = 100 * 2**20
MAX_FILE_BYTES = 10 * 2**20
FOLDERS_LEFT_OUT = frozenset(
    {"__pycache__", "build", "dist", "node_modules", "runs", "site-packages", "wandb", "mlruns"}
)
_PICTURES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_WEIGHTS = (".bin", ".ckpt", ".h5", ".npy", ".npz", ".onnx", ".pkl", ".pt", ".pth", ".safetensors")
_PACKED = (".7z", ".arrow", ".bz2", ".gz", ".lmdb", ".parquet", ".tar", ".tgz", ".xz", ".zip", ".zst")
_KEYS = (".jks", ".kdbx", ".key", ".keystore", ".p12", ".pem", ".pfx")
SUFFIXES_LEFT_OUT = frozenset({*_PICTURES, *_WEIGHTS, *_PACKED, *_KEYS, ".avi", ".mov", ".mp4", ".log", ".pyc", ".so"})
_SECRET = re.compile(r"(secret|credential|password|token)s?\b|^id_(rsa|dsa|ecdsa|ed25519)\b", re.IGNORECASE)

_Ignored = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A folder to send: its files, their bytes, and where the recipes are in it."""

    folder: Path
    num_files: int
    num_bytes: int
    recipes: tuple[str, ...]


def pack(folder: Path, recipes: Sequence[Recipe], *, working_dir: Path) -> Parcel:
    """Copy into the empty `folder` what the job of `recipes` needs, from `working_dir` and from this installation.

    Left out of `working_dir` are what git or Ray ignore (.gitignore, .rayignore), names that begin with a dot or say
    that they hold secrets, links, caches and virtual environments, the recipes' data and output folders, pictures,
    weights, archives and files over 10 MiB. Raises `ConfigError` where the rest is more than 100 MiB, naming what takes
    the most, and for a home folder.
    """
    if not working_dir.is_dir():
        raise ConfigError(f"--working-dir: expected a folder; got {working_dir}")
    root = working_dir.resolve()
    if Path.home().resolve().is_relative_to(root):
        raise ConfigError(
            f"--working-dir: expected a folder of code, an empty one will do; got {root}, all of your own"
        )
    kept_away = {path for recipe in recipes for path in _own_places(recipe)}
    sizes: dict[str, int] = {}
    for file in _sendable(root, kept_away):
        name = file.relative_to(root)
        sizes[name.parts[0]] = sizes.get(name.parts[0], 0) + file.stat().st_size
        if sum(sizes.values()) > MAX_BYTES:
            raise ConfigError(_too_much(working_dir, sizes))
        _copy(file, folder / name)
    package = Path(tis_ray.__file__).parent
    shutil.rmtree(folder / package.name, ignore_errors=True)  # the tis-ray that runs here, wherever it lies
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in recipes:
        target = folder / RECIPES / f"{recipe.name}.yaml"
        target.parent.mkdir(exist_ok=True)
        target.write_text(yaml.safe_dump(dump(recipe), sort_keys=False))
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = tuple(f"{RECIPES}/{recipe.name}.yaml" for recipe in recipes)
    return Parcel(folder, len(files), sum(path.stat().st_size for path in files), names)


def _sendable(root: Path, kept_away: set[Path]) -> Iterator[Path]:
    ignored = {root.parent: _ignored_above(root)}
    for name, folders, files in os.walk(root):
        here = Path(name)
        rules = ignored[here] = [*ignored[here.parent], *_ignored_by(here)]
        folders[:] = sorted(one for one in folders if _may_enter(here / one, kept_away, rules))
        yield from (here / one for one in sorted(files) if _may_go(here / one, kept_away, rules))


def _may_enter(folder: Path, kept_away: set[Path], ignored: Sequence[_Ignored]) -> bool:
    if folder.name.startswith(".") or folder.name in FOLDERS_LEFT_OUT or folder.name.endswith(".egg-info"):
        return False
    if folder.is_symlink() or folder in kept_away or (folder / "pyvenv.cfg").exists():
        return False
    return not any(rule(folder) for rule in ignored)


def _may_go(file: Path, kept_away: set[Path], ignored: Sequence[_Ignored]) -> bool:
    if file.name.startswith(".") or file.suffix.lower() in SUFFIXES_LEFT_OUT or file in kept_away:
        return False
    if file.suffix != ".py" and _SECRET.search(file.name):
        return False
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:  # a link may lead anywhere
        return False
    return not any(rule(file) for rule in ignored)


def _ignored_above(root: Path) -> list[_Ignored]:
    """The rules of the folders above `root` that belong to the same git repository."""
    above = list(root.parents)
    tops = [i for i, folder in enumerate(above) if (folder / ".git").exists()]
    if (root / ".git").exists() or not tops:
        return []
    return [rule for folder in above[: tops[0] + 1] for rule in _ignored_by(folder)]


def _ignored_by(folder: Path) -> list[_Ignored]:
    """As Ray itself reads them: were the files themselves sent, they would be gone by the time that it looks."""
    rules: list[_Ignored] = get_excludes_from_ignore_files(folder, include_gitignore=True, logger=logger)
    return rules


def _own_places(recipe: Recipe) -> Iterator[Path]:
    """Files and folders of the recipe's data, the checkpoint it starts from, and where its runs go."""
    yield recipe.output.resolve()
    if recipe.start is not None:
        yield recipe.start.checkpoint.resolve()
    data = recipe.data
    for part in () if data is None else (data.train, data.val, data.external):
        values = (part.model_dump() if part is not None else {}).values()
        for value in values:
            for path in value if isinstance(value, tuple) else (value,):
                if isinstance(path, Path):
                    yield path.resolve()
                    yield path.resolve().parent


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _too_much(working_dir: Path, sizes: dict[str, int]) -> str:
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
    named = ", ".join(f"{name} ({size / 2**20:.0f} MiB)" for name, size in largest)
    return (
        f"--working-dir: expected at most {MAX_BYTES // 2**20} MiB of code in {working_dir}; got more, most of it in "
        f"{named}; choose a smaller folder, an empty one will do"
    )
