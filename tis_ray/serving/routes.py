"""The HTTP interface: paths, what they accept, and the two pages. The work is done by `Gateway`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Query, Request, Response
from starlette.types import ASGIApp

import tis_ray
from tis_ray.config import Ensemble, FusionSection, dump
from tis_ray.instances import Categories
from tis_ray.serving import answer, examples, openapi, problems
from tis_ray.serving.auth import Doorkeeper
from tis_ray.serving.body import read_image
from tis_ray.serving.counting import CountStatuses
from tis_ray.serving.gateway import RETRY_AFTER, STOPPING, Gateway
from tis_ray.serving.headers import HeadAsGet, HeaderLimit, SafeHeaders
from tis_ray.serving.pages import add_pages
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.readiness import Readiness
from tis_ray.serving.schemas import AliveAnswer, EnsembleAnswer, ReadyAnswer, SegmentAnswer, SegmentQuery


def build_app(
    gateway: Gateway,
    *,
    ensemble: Ensemble,
    categories: Categories,
    model_version: str,
    fusion_section: Callable[[], Awaitable[tuple[FusionSection, str | None]]],
    tokens: Sequence[str] | Callable[[], Sequence[str]],
) -> FastAPI:
    """The application.

    `fusion_section` asks the fusion deployment for the section in force and why a later one was refused; `tokens` are
    those that open the door, or a function that returns the present ones.
    """
    readiness = Readiness(gateway.warm_up)
    app = _Service(
        title="tis-ray",
        version=tis_ray.__version__,
        description=openapi.DESCRIPTION,
        lifespan=_warming_up(readiness),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever Host the client sent
    )
    problems.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(HeaderLimit)
    app.add_middleware(CountStatuses, path="/v1/segment", ended=gateway.metrics.ended)
    door = Doorkeeper(tokens)
    _add_segment(app, gateway, door)
    _add_ensemble(app, ensemble, categories, model_version, fusion_section, door)
    _add_health(app, gateway, readiness)
    add_pages(app)
    openapi.describe(app, closed=door.closed, limits=gateway.limits)
    return app


class _Service(FastAPI):
    """Around everything, also around what answers for a defect, are the headers of every answer."""

    def build_middleware_stack(self) -> ASGIApp:
        return SafeHeaders(super().build_middleware_stack())


def _warming_up(readiness: Readiness) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(readiness.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return lifespan


def _add_segment(app: FastAPI, gateway: Gateway, door: Doorkeeper) -> None:
    @app.post(
        "/v1/segment",
        operation_id="segment",
        tags=["segmentation"],
        summary="Find and segment the objects of one image",
        response_model=SegmentAnswer,
        response_description="What was found in the image",
        responses=openapi.answers(examples.SEGMENT_ANSWERS)
        | openapi.problems(400, 401, 408, 413, 415, 422, 431, 500, 503, 504, closed=door.closed),
        dependencies=[Depends(_authorised(door))],
        openapi_extra=openapi.operation(closed=door.closed, requestBody=openapi.IMAGE_BODY),
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        deadline = gateway.deadline(query)
        with gateway.admitted(deadline):
            image = await read_image(
                request, max_bytes=gateway.limits.max_bytes, stall_s=gateway.limits.body_stall_s, deadline=deadline
            )
            return Response(await gateway.segment(image, query, deadline), media_type="application/json")


def _add_ensemble(
    app: FastAPI,
    ensemble: Ensemble,
    categories: Categories,
    model_version: str,
    fusion_section: Callable[[], Awaitable[tuple[FusionSection, str | None]]],
    door: Doorkeeper,
) -> None:
    @app.get(
        "/v1/ensemble",
        operation_id="describe",
        tags=["segmentation"],
        summary="Members, views, categories, fusion and limits of this service",
        response_model=EnsembleAnswer,
        response_description="What runs here",
        responses=openapi.answers(examples.ENSEMBLE_ANSWERS)
        | openapi.problems(401, 431, 500, 503, closed=door.closed, unavailable=examples.NOT_DESCRIBED),
        dependencies=[Depends(_authorised(door))],
        openapi_extra=openapi.operation(closed=door.closed),
    )
    async def describe() -> Response:
        section, refused = await fusion_section()
        content = {
            "model_version": model_version,
            "views": [answer.write_view(view) for view in ensemble.views],
            "deployments": list(ensemble.deployments),
            "categories": categories.to_json(),
            "fusion": dump(section),
            "fusion_refused": refused,
            "quorum": dump(ensemble.quorum),
            "limits": dump(ensemble.limits),
        }
        return Response(orjson.dumps(content), media_type="application/json")


def _add_health(app: FastAPI, gateway: Gateway, readiness: Readiness) -> None:
    @app.get(
        "/healthz",
        operation_id="health",
        tags=["operation"],
        summary="The gateway is alive",
        response_description="It is",
        responses=openapi.answers(examples.ALIVE_ANSWERS) | openapi.problems(431, 500),
    )
    async def healthz() -> AliveAnswer:
        return AliveAnswer(status="alive")

    @app.get(
        "/readyz",
        operation_id="readiness",
        tags=["operation"],
        summary="Every deployment has answered a warm-up image",
        response_model=ReadyAnswer,
        response_description="They have",
        responses=openapi.answers(examples.READY_ANSWERS)
        | openapi.problems(431, 500, 503, unavailable=examples.NOT_READY),
    )
    async def readyz() -> Response:
        if gateway.draining:
            raise ProblemError(503, STOPPING, headers=RETRY_AFTER)
        if not readiness.ready:
            raise ProblemError(503, readiness.detail, headers=RETRY_AFTER)
        return Response(orjson.dumps({"ready": True, "detail": readiness.detail}), media_type="application/json")


def _authorised(door: Doorkeeper) -> Callable[..., Awaitable[None]]:
    async def check(request: Request) -> None:
        door.check(request.headers.get("Authorization"))

    return check
