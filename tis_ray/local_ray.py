"""Starting a Ray of one's own on this machine, quietly and patiently.

Ray gives its node 30 s to come up, which a machine busy with other work may need longer for, and raises a bare
`Exception` where it did not.
"""

import logging
import os
import secrets
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.node import Node

from tis_ray.errors import ServiceError

_ATTEMPTS = 3


def start(*, num_cpus: int, dashboard: bool = False, runtime_env: dict[str, Any] | None = None) -> str | None:
    """Start it and connect to it; returns the address of its dashboard, where there is one.

    Raises `ServiceError` where it did not come up in several attempts, or this process is connected to one already,
    which is left as it is.
    """
    if ray.is_initialized():
        raise ServiceError("Ray did not start on this machine: this process is connected to one already")
    keep_token_private()
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


def keep_token_private() -> None:
    """See to it that nobody but its owner can read the token of Ray's own ports, which lets whoever has it run code.

    A Ray of one's own asks for one since 2.60 and keeps it in `~/.ray`, readable for every user of the machine. A token
    that the environment names is left as it is.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # Ray says what is wrong with the folder
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_privately(path, secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _write_privately(path: Path, content: str) -> None:
    """Write a file as a whole; one that another process has written meanwhile stays."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # readable for its owner alone
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _stop_half_started(error: Exception) -> None:
    """Stop the processes of a node that did not come up in time: Ray's own frames alone still know them."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
