"""What a deployment asks of the cluster: shares of GPUs, replicas, and how it makes room for its own replacements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tis_ray.config import Ensemble, Replica

_SPARE_S = 10.0  # a replica is given more time to stop than any request to be answered
_SURGE_PERCENT = 25  # what `auto` is where there is room


@dataclass(frozen=True, slots=True)
class Resources:
    """What the replicas of an ensemble share: `gpu_share` is what `num_gpus: auto` comes to for a view server.

    `free_cpus` are left of the cluster when all replicas run; `gpus` it has, of which each replica asks for one of
    `asked`.
    """

    gpu_share: float
    free_cpus: float
    gpus: int
    asked: tuple[float, ...]

    @classmethod
    def of(cls, ensemble: Ensemble, cluster: Mapping[str, float]) -> "Resources":
        """For a cluster of these resources by Ray's names, `CPU` and `GPU`; an empty one where none is known."""
        share = auto_gpus(ensemble, cluster.get("GPU", 0))
        servers = [ensemble.replica(name) for name in ensemble.deployments]
        others = [ensemble.replicas.get(name, Replica()) for name in ("gateway", "fusion")]
        cpus = sum(replica.most * replica.num_cpus for replica in (*servers, *others))
        asked = [_gpus(replica, share) for replica in servers for _ in range(replica.most)]
        asked += [_gpus(replica, 0.0) for replica in others for _ in range(replica.most)]
        return cls(share, cluster.get("CPU", 0) - cpus, int(cluster.get("GPU", 0)), tuple(asked))

    def options(self, ensemble: Ensemble, replica: Replica, *, on_gpu: bool) -> dict[str, Any]:
        """Serve's options for a deployment of `replica`; without `on_gpu`, `num_gpus: auto` is none."""
        num_gpus = _gpus(replica, self.gpu_share if on_gpu else 0.0)
        options: dict[str, Any] = {
            "ray_actor_options": {"num_cpus": replica.num_cpus, "num_gpus": num_gpus},
            "rolling_update_percentage": replica.rolling_update_percentage,
            "max_surge_percent": self._surge(replica, num_gpus),
            # A replica that is taken away answers what it has; it looks twice a second whether that is done.
            "graceful_shutdown_wait_loop_s": 0.5,
            "graceful_shutdown_timeout_s": ensemble.limits.max_deadline_s + _SPARE_S,
        }
        if replica.autoscaling is None:
            return options | {"num_replicas": replica.num_replicas}
        return options | {"autoscaling_config": replica.autoscaling.model_dump(exclude_none=True)}

    def _surge(self, replica: Replica, num_gpus: float) -> int:
        if replica.max_surge_percent != "auto":
            return replica.max_surge_percent
        # Without room its replacement would wait for ever, and the update with it.
        fits = replica.num_cpus <= self.free_cpus + 1e-6 and one_more_fits(num_gpus, self.asked, self.gpus)
        return _SURGE_PERCENT if fits else 0


def auto_gpus(ensemble: Ensemble, gpus: float) -> float:
    """What `num_gpus: auto` comes to for a view server: the `gpus` that no replica asks for, divided evenly."""
    replicas = [ensemble.replica(name) for name in ensemble.deployments]
    named = [*replicas, *(ensemble.replicas[name] for name in ("gateway", "fusion") if name in ensemble.replicas)]
    left = gpus - sum(replica.most * replica.num_gpus for replica in named if replica.num_gpus != "auto")
    sharing = sum(replica.most for replica in replicas if replica.num_gpus == "auto")
    return min(1.0, 1 / math.ceil(sharing / left)) if sharing and left > 0 else 0.0


def one_more_fits(num_gpus: float, asked: Sequence[float], gpus: int) -> bool:
    """Whether there is room for a replica of `num_gpus` beside those of `asked`, wherever on the `gpus` these may lie.

    Halves that are free on two GPUs are no room for a whole. Shares are reckoned as 1/k, of which k fit onto a GPU.
    """
    if num_gpus == 0:
        return True
    pieces = math.lcm(*(_per_gpu(one) for one in (*asked, num_gpus) if 0 < one < 1))  # of each GPU, all equal
    free = pieces * gpus - sum(_pieces(one, pieces) for one in asked)
    # With so much free, and no more, every GPU may lack just a piece.
    useless = gpus * (_pieces(min(num_gpus, 1.0), pieces) - 1) + max(0, math.ceil(num_gpus) - 1)
    return free > useless


def _per_gpu(share: float) -> int:
    """How many replicas of this share, below 1, a GPU holds."""
    return math.floor(1 / share + 1e-6)


def _pieces(num_gpus: float, pieces: int) -> int:
    return pieces // _per_gpu(num_gpus) if 0 < num_gpus < 1 else round(num_gpus) * pieces


def _gpus(replica: Replica, share: float) -> float:
    return share if replica.num_gpus == "auto" else replica.num_gpus
