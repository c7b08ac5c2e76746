"""The Serve application: one `Gateway`, one `Fusion`, and the ensemble's view servers.

A view server is named `member@scale`, `member@scale.crop` or, where it runs several of these, `member@group`.

`build` is the typed builder that a Serve config names (`import_path: tis_ray.serving.app:build`): its `args` are an
ensemble. Changing `args` replaces every replica; the fusion section may instead be given as the `user_config` of the
deployment `Fusion`, and `num_replicas` for each deployment: both take effect while the service runs. Paths of
checkpoints are absolute or relative to the folder in which Ray was started.
"""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from tis_ray.config import Ensemble, FusionSection, Replica, dump
from tis_ray.errors import ConfigError
from tis_ray.formats.members import ensemble_categories, ensemble_sizes, maskless_members
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories
from tis_ray.serving.auth import current_tokens, read_tokens
from tis_ray.serving.calls import ServedViews, bounded, fusion_call
from tis_ray.serving.fusion import Fusion
from tis_ray.serving.gateway import RETRY_AFTER, Gateway
from tis_ray.serving.heap import give_back_what_is_freed
from tis_ray.serving.loading import load_predictor, memory_taken
from tis_ray.serving.messages import DeadlineError, Explain, FusedAnswer, UnavailableError
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.rehearsal import rehearse_writing
from tis_ray.serving.resources import Resources
from tis_ray.serving.routes import build_app
from tis_ray.serving.versions import version_of
from tis_ray.serving.view_server import STUCK_AFTER_S, ViewServer
from tis_ray.views import SizeHW

logger = logging.getLogger("ray.serve")

_AT_THE_DOOR = 1000  # requests that a gateway refuses at once with a problem; beyond them Serve does, in plain text
_ROUTER = "tis_ray.serving.replica_choice:KeeperFirst"
_DESCRIBE_S = 5.0  # how long `/v1/ensemble` waits for the fusion


class GatewayReplica:
    """The gateway with its HTTP application, as Serve runs it."""

    def __init__(self, ensemble: Ensemble, categories: Categories, fusion: DeploymentHandle[Any]) -> None:
        give_back_what_is_freed()
        self._tokens = current_tokens(ensemble)
        self._ensemble = ensemble
        self._categories = categories
        self._fusion = fusion

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._version = version = version_of(self._ensemble)
        rehearse_writing(self._categories)
        self._gateway = Gateway(
            fusion_call(self._fusion),
            put=ray.put,
            categories=self._categories,
            limits=self._ensemble.limits,
            model_version=version,
        )
        return build_app(
            self._gateway,
            ensemble=self._ensemble,
            categories=self._categories,
            model_version=version,
            fusion_section=self._section,
            tokens=self._tokens,
        )

    async def model_version(self) -> str:
        """That of the checkpoints as they were when this replica started."""
        return self._version

    async def drain(self, within_s: float) -> bool:
        """Refuse new requests; whether those in flight were answered within `within_s` seconds."""
        return await self._gateway.drain(within_s)

    async def _section(self) -> tuple[FusionSection, str | None]:
        try:
            section: tuple[FusionSection, str | None] = await bounded(
                lambda _: self._fusion.section.remote(), deadline_s=_DESCRIBE_S
            )
        except (DeadlineError, UnavailableError) as error:
            raise ProblemError(503, f"the fusion deployment is not there: {error}", headers=RETRY_AFTER) from None
        return section


class FusionReplica:
    """The fusion over Serve handles; a `user_config` is its fusion section."""

    def __init__(
        self,
        ensemble: Ensemble,
        categories: Categories,
        sizes: dict[str, TrainingSizes],
        maskless: frozenset[str],
        servers: dict[str, DeploymentHandle[Any]],
    ) -> None:
        calls = {name: ServedViews(handle) for name, handle in servers.items()}
        self._fusion = Fusion(ensemble, calls, categories, sizes, maskless)
        self._started = False
        self._refused: str | None = None

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take another fusion section. A wrong one keeps a replica from starting. A running one stays with what it
        has: Serve would stop it if this raised, and nothing could be started in its place."""
        try:
            self._fusion.reconfigure(user_config)
            self._refused = None
        except ConfigError as error:
            if not self._started:
                raise
            self._refused = str(error)
            logger.error("the fusion section stays as it was: %s", error)
        if not self._started:
            self._fusion.rehearse()
        self._started = True

    async def ensemble(self) -> Ensemble:
        return self._fusion.ensemble

    async def section(self) -> tuple[FusionSection, str | None]:
        """The fusion section in force, and why the last `user_config` was not taken, if it was not."""
        return self._fusion.ensemble.fusion, self._refused

    async def segment(self, frames: list[Any], *, image_hw: SizeHW, deadline_s: float, explain: Explain) -> FusedAnswer:
        return await self._fusion.segment(frames[0], image_hw=image_hw, deadline_s=deadline_s, explain=explain)


def check(ensemble: Ensemble) -> Categories:
    """The class table of all members, once everything that can be checked without a replica is right.

    Raises `CheckpointError` or `ConfigError`: members that do not fit together or cannot do what their role asks, a
    misspelt rule, no token.
    """
    read_tokens(ensemble)
    categories = ensemble_categories(ensemble)
    Fuser.of(ensemble, categories, sizes=ensemble_sizes(ensemble), maskless=maskless_members(ensemble))
    return categories


def build(args: Ensemble) -> Application:
    """The application of an ensemble. Raises what `check` raises."""
    ensemble = args.located_in(Path())
    categories = check(ensemble)
    resources = Resources.of(ensemble, ray.cluster_resources() if ray.is_initialized() else {})
    servers = {name: _view_server(ensemble, name, categories, resources) for name in ensemble.deployments}
    queue = ensemble.limits.max_queued_requests
    fusion = _deployment(
        FusionReplica,
        "Fusion",
        user_config=dump(ensemble.fusion),
        max_ongoing_requests=2 * queue,
        max_queued_requests=queue,
        **resources.options(ensemble, ensemble.replicas.get("fusion", Replica()), on_gpu=False),
    )
    gateway = _deployment(
        serve.ingress()(GatewayReplica),
        "Gateway",
        # The gateway itself refuses what is too much for it, with a problem; Serve's own limits lie above that, also
        # for a crowd that comes while the proxy still asks a replica how busy it is.
        max_ongoing_requests=queue + _AT_THE_DOOR,
        max_queued_requests=queue + _AT_THE_DOOR,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        **resources.options(ensemble, ensemble.replicas.get("gateway", Replica()), on_gpu=False),
    )
    fused = fusion.bind(ensemble, categories, ensemble_sizes(ensemble), maskless_members(ensemble), servers)
    return gateway.bind(ensemble, categories, fused)


def _view_server(ensemble: Ensemble, name: str, categories: Categories, resources: Resources) -> Application:
    views = ensemble.deployments[name]
    checkpoint = ensemble.members[views[0].member].checkpoint
    options = resources.options(ensemble, ensemble.replica(name), on_gpu=True)
    num_gpus = options["ray_actor_options"]["num_gpus"]
    # A replica without a share still sees the machine's GPUs: Ray hides them from none.
    device = "cuda" if num_gpus else "cpu"
    deployment = _deployment(
        ViewServer,
        name,
        # All that a gateway lets in may wait before the model itself, where pictures find company and second passes
        # go first; they share the frame, so waiting takes no memory.
        max_ongoing_requests=max(4, ensemble.limits.max_queued_requests),
        max_queued_requests=ensemble.limits.max_queued_requests,
        # By its name, not the class: only so is the config equal to itself once the controller has read it.
        request_router_config={"request_router_class": _ROUTER},
        **options,
    )
    load = partial(
        load_predictor,
        checkpoint,
        categories,
        device=device,
        gpu_share=min(num_gpus, 1.0),
        feature_bytes=ensemble.replica(name).feature_bytes(on_gpu=device == "cuda"),
        feature_age_s=ensemble.limits.max_deadline_s,
        inference=ensemble.inference,
    )
    stuck_after_s = max(STUCK_AFTER_S, ensemble.limits.max_deadline_s)
    return deployment.bind(
        load,
        views,
        stuck_after_s=stuck_after_s,
        leave=_end_process,
        name=_replica_name,
        sizes_hw=ensemble.inference.sizes_hw,
        taken=partial(memory_taken, device),
    )


def _replica_name() -> str:
    """By which `KeeperFirst` knows the replica that this runs in."""
    return serve.get_replica_context().replica_id.unique_id


def _end_process() -> None:
    """Serve replaces the replica; what it had to answer is asked of another."""
    logging.shutdown()
    os._exit(1)


def _deployment(plain: Any, name: str, **options: Any) -> Deployment:
    """A class without any Ray in it as a deployment."""
    made: Any = serve.deployment(plain, name=name, **options)
    assert isinstance(made, Deployment)
    return made
