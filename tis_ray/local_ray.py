"""Starting a Ray of one's own on this machine, quietly and patiently.

Ray gives its node 30 s to come up, which a machine busy with other work may need longer for, and raises a bare
`Exception` where it did not.
"""

import logging
import traceback
from typing import Any

import ray
from ray._private.node import Node

from tis_ray.errors import ServiceError

_ATTEMPTS = 3


def start(*, num_cpus: int, dashboard: bool = False, runtime_env: dict[str, Any] | None = None) -> str | None:
    """Start it and connect to it; returns the address of its dashboard, where there is one.

    Raises `ServiceError` where it did not come up in several attempts.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            context = ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=dashboard,
                runtime_env=runtime_env,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:
            _stop_half_started(error)
            ray.shutdown()
            if attempt == _ATTEMPTS or isinstance(error, (OSError, TypeError, ValueError)):
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise ServiceError(f"Ray did not start on this machine: {reason}") from error
        else:
            return f"http://{context.dashboard_url}" if dashboard else None
    raise AssertionError("the last attempt returns or raises")


def _stop_half_started(error: Exception) -> None:
    """Stop the processes of a node that did not come up in time: Ray's own frames alone still know them."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
