"""Bringing a finished checkpoint from the cluster to this machine, checked by size and SHA-256."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from tis_ray.cluster.head import Head
from tis_ray.cluster.job import MANIFEST, describe, shelf
from tis_ray.errors import ServiceError


def fetch_checkpoint(head: Head, *, job: str, recipe: str, target: Path, say: Callable[[str], None]) -> None:
    """Make `target` the checkpoint folder that `job` trained by the recipe of that name.

    Where the same files are there already, as on storage that this machine shares with the cluster, nothing is sent.
    The folder appears when all of it is here and its sums are right; what was there before is replaced. Raises
    `ServiceError` where the job left nothing or the transfer is damaged.
    """
    node = head.job(job).driver_node_id
    if node is None:
        raise ServiceError(f"{job}: expected the node that it ran on; the cluster does not know it any more")
    place = f"{shelf(job)}/{recipe}"
    with head.file(node, f"{place}/{MANIFEST}") as pieces:
        listed: dict[str, dict[str, Any]] = orjson.loads(b"".join(pieces))
    if _is_there(target, listed):
        return
    say(f"fetching {recipe}, {sum(entry['bytes'] for entry in listed.values()) / 2**20:.1f} MiB")
    partial = target.with_name(f".partial-fetched-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, entry in listed.items():
            with (partial / Path(name).name).open("wb") as file, head.file(node, f"{place}/{name}") as pieces:
                file.writelines(pieces)
            if describe(partial / Path(name).name) != entry:
                raise ServiceError(f"{recipe}/{name}: expected {entry['bytes']} bytes; got others; fetch it again")
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(target: Path, listed: Mapping[str, Mapping[str, Any]]) -> bool:
    return all((target / name).is_file() and describe(target / name) == entry for name, entry in listed.items())
