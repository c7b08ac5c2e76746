"""A service of a test's own, started where none runs, otherwise put in the place of the session's for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.serving.bad_days import deploy
from tis_ray.config import Ensemble


@contextmanager
def standing(ensemble: Ensemble, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a service of `ensemble` that answers."""
    import ray

    from tis_ray.serving.local import free_port, serve_locally

    if not ray.is_initialized():
        with serve_locally(ensemble, port=free_port()) as running:
            yield running.url
        return
    service = request.getfixturevalue("service")
    deploy(ensemble, service.url)
    try:
        yield service.url
    finally:
        deploy(service.ensemble, service.url)
