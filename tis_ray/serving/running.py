"""Finding the service from the Ray side: the fusion deployment of an application that runs already."""

import logging
import threading
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve._private.router import SingletonThreadRouter
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from tis_ray.config import Ensemble, dump
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.serving.versions import version_of

APPLICATION = "tis-ray"
_LEAVING_S = 10.0


def fusion_handle() -> DeploymentHandle[Any]:
    """The fusion deployment of the application on the Ray that this process is connected to."""
    return serve.get_deployment_handle("Fusion", app_name=APPLICATION)


def disconnect() -> None:
    """Leave the Ray that `connect` has connected to.

    A thread of Serve's asks the controller again whenever it was answered. Where Ray goes at that moment, the call ends
    the process with a segmentation fault, so the thread is kept busy until Ray is gone.
    """
    loop = getattr(SingletonThreadRouter, "_asyncio_loop", None)
    held, gone = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        gone.wait(_LEAVING_S)

    if loop is not None and loop.is_running():
        loop.call_soon_threadsafe(hold)
        held.wait(_LEAVING_S)
    try:
        ray.shutdown()
    finally:
        gone.set()


def connect(address: str, ensemble: Ensemble) -> DeploymentHandle[Any]:
    """Connect to the Ray at `address` and return the fusion of the service there, which must run `ensemble`.

    Raises `ServiceError` where there is no Ray or no service, `ConfigError` naming the first key of the members or
    the fusion section that is another there, and for checkpoints that have changed since the service read them.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ServiceError(f"Ray address: expected a running Ray at {address}; got {_line(error)}") from None
    try:
        handle = fusion_handle()
        running: Ensemble = handle.ensemble.remote().result(timeout_s=30)
        check_equal(running, ensemble)
        gateway = serve.get_deployment_handle("Gateway", app_name=APPLICATION)
        _check_version(gateway.model_version.remote().result(timeout_s=30), ensemble)
    except (RayServeException, RayError, TimeoutError) as error:
        disconnect()
        raise ServiceError(f"Ray address: expected a service at {address}; got {_line(error)}") from None
    except ConfigError:
        disconnect()
        raise
    return handle


def check_equal(running: Ensemble, wanted: Ensemble) -> None:
    """Raise `ConfigError` naming the first key of members or fusion section in which the two differ."""
    for section in ("members", "fusion"):
        difference = _difference(section, dump(running)[section], dump(wanted)[section])
        if difference is not None:
            key, there, here = difference
            raise ConfigError(f"{key}: expected {there}, as the running service has it; got {here}")


def _check_version(running: str, ensemble: Ensemble) -> None:
    here = version_of(ensemble)
    if running != here:
        raise ConfigError(
            f"members: expected checkpoints as the running service read them, model version {running}; "
            f"got {here}; deploy it again"
        )


def _difference(key: str, there: Any, here: Any) -> tuple[str, Any, Any] | None:
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return None if there == here else (key, there, here)
    names = [*there, *(name for name in here if name not in there)]
    found = (_difference(f"{key}.{name}", there.get(name, "nothing"), here.get(name, "nothing")) for name in names)
    return next((one for one in found if one is not None), None)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
