"""Whether every node that may work on a batch run sees its folder and its images, asked before anything starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tis_ray import whole_files
from tis_ray.errors import ConfigError
from tis_ray.formats import locations
from tis_ray.formats.image_list import ListedImage
from tis_ray.runs.folder import RunFolder

_WITHIN_S = 60.0  # a node that does not answer meanwhile is not waited for: it may be leaving
_LOOKED_AT = 3  # images of the list that have to be seen


def idle_nodes() -> list[str]:
    """Ids of the cluster's nodes that are not there to compute, for they have no CPUs, as many a head."""
    alive = _alive()
    return sorted(set(alive) - set(_computing(alive)))


def check_storage(run: RunFolder) -> None:
    """Raise `ConfigError` naming a node that does not share the run's folder, or does not see an image that this
    process sees. Asked are the nodes that compute."""
    nodes = {node: about["NodeManagerAddress"] for node, about in _computing(_alive()).items()}
    if set(nodes) <= {ray.get_runtime_context().get_node_id()}:
        return
    folder, images = run.path.absolute(), _seen_here(run.images)
    probe = whole_files.partial_of(folder / "probe")
    probe.write_text(uuid4().hex)
    try:
        look = ray.remote(num_cpus=0, max_retries=1)(_unseen)
        asked = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                str(probe), probe.read_text(), [str(image) for image in images]
            ): node
            for node in nodes
        }
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_WITHIN_S)
        unseen = {nodes[asked[answer]]: _answer(answer) for answer in ready}
        for node, missing in sorted(unseen.items()):
            if missing == str(probe):
                raise ConfigError(
                    f"--run: expected storage that every node shares; node {node} does not share {folder}"
                )
            if missing is not None:
                raise ConfigError(f"--images: expected images that every node sees; node {node} does not see {missing}")
    finally:
        whole_files.remove(probe)


def _unseen(probe: str, content: str, images: Sequence[str]) -> str | None:
    """On a node: the first that cannot be used from there, None where all can."""
    reply = Path(f"{probe}.{uuid4().hex[:8]}")
    try:
        if Path(probe).read_text() != content:
            return probe
        reply.write_bytes(b"")
        reply.unlink()
    except OSError:
        return probe
    return next((image for image in images if not locations.is_file(Path(image))), None)


def _answer(answer: "ray.ObjectRef[str | None]") -> str | None:
    try:
        return ray.get(answer)
    except RayError:  # a node that is just leaving
        return None


def _seen_here(images: Sequence[ListedImage]) -> list[Path]:
    first = [image.path if locations.is_remote(image.path) else image.path.absolute() for image in images[:_LOOKED_AT]]
    return [path for path in first if locations.is_file(path)]


def _alive() -> dict[str, dict[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _computing(alive: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {node: about for node, about in alive.items() if about["Resources"].get("CPU", 0) > 0} or alive
