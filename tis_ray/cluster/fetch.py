"""Bringing a finished checkpoint from the cluster to this machine, checked by size and SHA-256.

Whoever reaches a cluster may write what is read from it here: no name that it sends becomes a path.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from tis_ray.cluster.head import Head
from tis_ray.cluster.job import FILES, MANIFEST, OPTIONAL_FILES, describe, shelf
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.models.checkpoint import RECIPE
from tis_ray.whole_files import replacing


def fetch_checkpoint(head: Head, *, job: str, recipe: str, target: Path, say: Callable[[str], None]) -> None:
    """Make `target` the checkpoint folder that `job` trained by the recipe of that name.

    Where the same files are there already, as on storage that this machine shares with the cluster, nothing is sent.
    The folder appears when all of it is here and its sums are right; a checkpoint that was there before is replaced.
    Raises `ServiceError` where the job left nothing or the transfer is damaged, `ConfigError` where something else than
    a checkpoint is in the way.
    """
    node = head.job(job).driver_node_id
    if node is None:
        raise ServiceError(f"{job}: expected the node that it ran on; the cluster does not know it any more")
    place = f"{shelf(job)}/{recipe}"
    with head.file(node, f"{place}/{MANIFEST}") as pieces:
        listed = _listed(b"".join(pieces), f"{recipe}/{MANIFEST}")
    if _is_there(target, listed):
        return
    _check_replaceable(target)
    say(f"fetching {recipe}, {sum(entry['bytes'] for entry in listed.values()) / 2**20:.1f} MiB")
    with replacing(target) as partial:
        partial.mkdir(parents=True)
        for name, entry in listed.items():
            with (partial / name).open("wb") as file, head.file(node, f"{place}/{name}") as pieces:
                file.writelines(pieces)
            if describe(partial / name) != entry:
                raise ServiceError(f"{recipe}/{name}: expected {entry['bytes']} bytes; got others; fetch it again")


def _check_replaceable(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not (target / RECIPE).is_file() and not _is_empty(target)):
        raise ConfigError(f"output: expected nothing or a checkpoint at {target}; it holds something else")


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _listed(content: bytes, name: str) -> dict[str, dict[str, Any]]:
    """Size and sum of each file of a checkpoint, and of nothing else."""
    try:
        listed = orjson.loads(content)
        files = [*FILES, *(file for file in OPTIONAL_FILES if file in listed)]
        found = {file: {"bytes": int(listed[file]["bytes"]), "sha256": str(listed[file]["sha256"])} for file in files}
    except (ValueError, KeyError, TypeError):
        raise ServiceError(f"{name}: expected sizes and sums of {', '.join(FILES)}; got others") from None
    return found


def _is_there(target: Path, listed: Mapping[str, Mapping[str, Any]]) -> bool:
    return all((target / name).is_file() and describe(target / name) == entry for name, entry in listed.items())
