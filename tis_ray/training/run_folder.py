"""The folder of one run, and what may be found in it after a kill at any moment.

`recipe.yaml` the recipe it began with; `checkpoint_000003/` the state after three epochs, and
`checkpoint_000003.0001200/` that after 1200 batches more, in full or not there at all, because they are written under
another name and renamed; `checkpoint/` the finished detector; `tensorboard/`. Ray Train keeps its own notes in the same
folder.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tis_ray import whole_files
from tis_ray.config import Recipe, dump, parse, read_yaml
from tis_ray.config.weights import is_weight_file
from tis_ray.errors import ConfigError
from tis_ray.training.position import Position
from tis_ray.whole_files import PARTIAL

FINISHED = "checkpoint"
RECIPE = "recipe.yaml"
STATE = "training_state.pt"
TENSORBOARD = "tensorboard"
KEPT_CHECKPOINTS = 2
_CHECKPOINT = re.compile(r"checkpoint_(\d{6,})(?:\.(\d{7,}))?")
_DECIDING = {"data", "detector", "start", "schedule", "seed", "resources.workers", "resources.size_bucket_px"}
_NOT_DECIDING = {"data.loader_processes", "schedule.checkpoint_every_iterations", "schedule.validate_every_epochs"}
_LOCK = ".lock"
_RAY_SNAPSHOT = "checkpoint_manager_snapshot.json"


def absolute(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths: workers run in a folder of their own. `ConfigError` where it has no data."""
    if recipe.data is None:
        raise ConfigError(f"data.train: expected what {recipe.name} is to be trained on; its recipe has no data")
    parts = {key: getattr(recipe.data, key) for key in ("train", "val", "external")}
    data = recipe.data.model_copy(update={key: part and part.absolute() for key, part in parts.items()})
    backbone = recipe.detector.backbone
    weights = backbone.options.get("weights")
    if isinstance(weights, str) and is_weight_file(weights):
        options = backbone.options | {"weights": str(Path(weights).resolve())}
        backbone = backbone.model_copy(update={"options": options})
    detector = recipe.detector.model_copy(update={"backbone": backbone})
    start = recipe.start
    if start is not None:
        start = start.model_copy(update={"checkpoint": start.checkpoint.resolve()})
    return recipe.model_copy(
        update={"data": data, "detector": detector, "start": start, "output": recipe.output.resolve()}
    )


def check(recipe: Recipe, *, resume: bool) -> None:
    """Raise `ConfigError` where a run of `recipe` must not begin (or go on, with `resume`) in its folder."""
    folder, noted = recipe.run_dir, recipe.run_dir / RECIPE
    if not finished(folder):
        with _writable(folder):
            _check_writable(folder)
    if newest(folder) is None and not finished(folder):  # no run, or one that failed before it learned anything
        if not noted.exists() and folder.exists() and (not folder.is_dir() or _holds_files(folder)):
            raise ConfigError(f"output: expected a folder of a run; {folder} holds something else")
    elif not resume:
        raise ConfigError(
            f"output: {folder} already holds a run; continue it with --resume, or choose another name or output"
        )
    elif not noted.exists():
        raise ConfigError(f"output: {folder} has checkpoints but no {RECIPE}; choose another name or output")
    else:
        _check_same(parse(Recipe, read_yaml(noted), source=str(noted)), recipe)


@contextmanager
def locked(folder: Path, *, starting: bool) -> Iterator[None]:
    """Hold the folder: `starting` for the one process that starts its run, else for the worker that writes.

    Raises `ConfigError` while another run holds it, be it only the last worker of one that was killed.
    """
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a+")
    with file:
        if starting:
            _lock(file.fileno(), fcntl.LOCK_EX, folder)
        _lock(file.fileno(), fcntl.LOCK_SH, folder)
        yield


def _lock(descriptor: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"output: another process is training in {folder}; wait until it has ended") from None
    except OSError:  # a file system without locks is trusted
        pass


def _holds_files(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def prepare(recipe: Recipe) -> None:
    """Make the folder, note the recipe, and clear away what a killed run left half done."""
    folder = recipe.run_dir
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        clear(folder)
        prune(folder)
        whole_files.write(folder / RECIPE, yaml.safe_dump(dump(recipe), sort_keys=False))
        # Ray Train writes its notes in place, so a kill can tear them, and refuses to start where they name a folder
        # that is gone. Checkpoints are found by name instead, and Ray begins its notes anew.
        (folder / _RAY_SNAPSHOT).unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Delete what is half written, as far as that is possible."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        whole_files.remove(leftover)


def _check_writable(folder: Path) -> None:
    """Raise `OSError` where the folder cannot be there; nothing is made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    number = errno.ENOTDIR if not there.is_dir() else 0 if os.access(there, os.W_OK | os.X_OK) else errno.EACCES
    if number:
        raise OSError(number, os.strerror(number))


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Say in one line that nothing can be written there."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"output: expected a folder that can be written; got {folder}: {error.strerror}") from None


def prune(folder: Path) -> None:
    """Delete all training checkpoints but the newest two; Ray forgets those from before a kill."""
    for path in _checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(path, ignore_errors=True)


def newest(folder: Path) -> tuple[Path, Position] | None:
    """The last complete training checkpoint and what it stands for."""
    found = _checkpoints(folder)
    return (found[-1], position_of(found[-1])) if found else None


def newest_name(folder: Path) -> str:
    """The name of the last complete training checkpoint, empty where there is none."""
    found = newest(folder)
    return "" if found is None else found[0].name


def position_of(checkpoint: Path) -> Position:
    """What a training checkpoint stands for, by its name."""
    found = _CHECKPOINT.fullmatch(checkpoint.name)
    assert found is not None
    return Position(int(found[1]), int(found[2] or 0))


def partial(folder: Path, position: Position) -> Path:
    """A fresh folder in which the checkpoint at `position` is to be written. What a lost worker left is deleted."""
    batches = f".{position.batches:07d}" if position.batches else ""
    path = folder / f"{PARTIAL}checkpoint_{position.epochs:06d}{batches}"
    clear(folder)
    path.mkdir(parents=True)
    return path


def commit(written: Path) -> Path:
    """Give a folder from `partial` its final name, once all of it is on the disk."""
    final = written.with_name(written.name.removeprefix(PARTIAL))
    whole_files.replace(written, final, durable=True)
    return final


def publish(folder: Path) -> Path:
    """Make `checkpoint/`: the newest training checkpoint without what only training needs."""
    found = newest(folder)
    if found is None:
        raise ConfigError(f"output: expected a training checkpoint in {folder}; there is none")
    with whole_files.replacing(folder / FINISHED, durable=True) as written:
        shutil.copytree(found[0], written, ignore=shutil.ignore_patterns(STATE))
    prune(folder)
    return folder / FINISHED


def finished(folder: Path) -> bool:
    """Whether the run has published its detector."""
    return (folder / FINISHED).is_dir()


def _checkpoints(folder: Path) -> list[Path]:
    """Complete training checkpoints, oldest first."""
    found = (path for path in folder.glob("checkpoint_*") if _CHECKPOINT.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=position_of)


def _check_same(began: Recipe, recipe: Recipe) -> None:
    """Refuse a change of anything that decides the weights."""
    before, now = dict(_deciding(dump(began))), dict(_deciding(dump(recipe)))
    for key in [*now, *before]:
        was, came = (repr(leaves[key]) if key in leaves else "nothing" for leaves in (before, now))
        if was != came:
            raise ConfigError(
                f"{key}: expected {was}, with which the run in {recipe.run_dir} began; "
                f"got {came} (a resumed run keeps its recipe)"
            )


def _deciding(recipe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key paths and values of the recipe that change what is learned."""
    for key, value in _leaves(recipe, ()):
        section = key.split(".", 1)[0]
        if key == "resources.workers" and isinstance(value, list):
            value = value[-1]  # what the schedule is meant for; how few may do the work decides nothing
        if key not in _NOT_DECIDING and (key in _DECIDING or section in _DECIDING):
            yield key, value


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield ".".join(path), value
