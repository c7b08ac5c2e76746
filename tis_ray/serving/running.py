"""Finding the service from the Ray side: the fusion deployment of an application that runs already."""

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError, ServiceError

APPLICATION = "tis-ray"


def fusion_handle() -> DeploymentHandle:
    """The fusion deployment of the application on the Ray that this process is connected to."""
    return serve.get_deployment_handle("Fusion", app_name=APPLICATION)


def connect(address: str, ensemble: Ensemble) -> DeploymentHandle:
    """Connect to the Ray at `address` and return the fusion of the service there, which must run `ensemble`.

    Raises `ServiceError` where there is no Ray or no service, `ConfigError` where its members are others.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ServiceError(f"Ray address: expected a running Ray at {address}; got {error}") from None
    try:
        handle = fusion_handle()
        running: Ensemble = handle.ensemble.remote().result(timeout_s=30)
    except (RayServeException, TimeoutError) as error:
        ray.shutdown()
        raise ServiceError(f"Ray address: expected a service at {address}; got {error}") from None
    if running.members != ensemble.members:
        ray.shutdown()
        raise ConfigError(
            f"members: expected those of the running service, {_members(running)}; got {_members(ensemble)}"
        )
    return handle


def _members(ensemble: Ensemble) -> str:
    return ", ".join(f"{name} ({one.checkpoint}, scales {one.scales})" for name, one in ensemble.members.items())
