"""A Serve graph of the service's shape that does no work: what Serve itself takes for such a request.

A gateway reads the body and puts a frame of the same size into the object store, once; one more deployment gets the
reference in a list and passes it on to ten; each of these reads one pixel and answers with as many bytes as it is
asked for.
"""

import asyncio
import time
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH
from tests.benchmarks.idle_service import DEPLOYMENTS, REPLICA

NAME, ROUTE = "bare", "/bare"


class Door:
    """Takes the picture's bytes and answers with the seconds of each stage."""

    def __init__(self, middle: DeploymentHandle[Any]) -> None:
        self._middle = middle
        self._frame = np.zeros((FRAME_HEIGHT, FRAME_WIDTH, 3), dtype=np.uint8)

    async def __call__(self, request: Request) -> dict[str, float]:
        await request.body()
        start = time.perf_counter()
        frame = ray.put(self._frame)
        stored = time.perf_counter()
        views_s = await self._middle.ask.remote([frame], int(request.query_params.get("answer_bytes", 0)))
        end = time.perf_counter()
        return {"decode_s": stored - start, "views_s": views_s, "total_s": end - start}


class Middle:
    """Asks all servers at once."""

    def __init__(self, servers: list[DeploymentHandle[Any]]) -> None:
        self._servers = servers

    async def ask(self, frames: list[Any], answer_bytes: int) -> float:
        start = time.perf_counter()
        await asyncio.gather(*[server.look.remote(frames[0], answer_bytes) for server in self._servers])
        return time.perf_counter() - start


class Server:
    """Has the frame in its hands."""

    async def look(self, frame: Any, answer_bytes: int) -> Any:
        assert frame[0, 0, 0] == 0
        return np.zeros(answer_bytes, dtype=np.uint8)


def build() -> Application:
    """The graph, with as many deployments as the service has view servers."""
    servers = [_deployment(Server, f"server{number}").bind() for number in range(DEPLOYMENTS)]
    return _deployment(Door, "Door").bind(_deployment(Middle, "Middle").bind(servers))


def _deployment(plain: type, name: str) -> Any:
    return serve.deployment(plain, name=name, ray_actor_options=REPLICA, max_ongoing_requests=16)
