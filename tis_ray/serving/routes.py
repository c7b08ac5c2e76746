"""The HTTP interface: paths, what they accept, and the two pages. The work is done by `Gateway`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from starlette.types import ASGIApp

import tis_ray
from tis_ray.config import Ensemble, FusionSection, dump
from tis_ray.instances import Categories
from tis_ray.serving import answer, problems
from tis_ray.serving.auth import Doorkeeper
from tis_ray.serving.body import read_image
from tis_ray.serving.gateway import RETRY_AFTER, STOPPING, Gateway
from tis_ray.serving.headers import MAX_HEADER_BYTES, HeadAsGet, HeaderLimit, SafeHeaders
from tis_ray.serving.pages import add_pages
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.readiness import Readiness
from tis_ray.serving.schemas import EnsembleAnswer, Problem, ReadyAnswer, SegmentAnswer, SegmentQuery

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The image is empty, cut short or none at all"},
    401: {"description": "A token is missing or wrong"},
    408: {"description": "The body stood still, or did not arrive before the deadline"},
    413: {"description": "Too many bytes or pixels"},
    415: {"description": "Neither an image type nor multipart/form-data"},
    422: {"description": "A query parameter is unknown or out of range"},
    431: {"description": f"More than {MAX_HEADER_BYTES} bytes of headers"},
    503: {
        "description": "Too many requests are waiting, too many views failed, or the service is shutting down; "
        "try again after Retry-After seconds"
    },
    504: {"description": "The deadline passed"},
}
_IMAGE_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "format": "binary"}},
                "required": ["image"],
            }
        },
    },
}


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
    warm_up = SegmentQuery.model_validate({})
    readiness = Readiness(lambda image: gateway.segment(image, warm_up, gateway.deadline(warm_up), whole=True))
    app = _Service(
        title="tis-ray",
        version=tis_ray.__version__,
        description="Finds and segments tiny objects: one ensemble, many views, one answer.",
        lifespan=_warming_up(readiness),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever Host the client sent
    )
    problems.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(HeaderLimit)
    door = Doorkeeper(tokens)
    _add_segment(app, gateway, door)
    _add_ensemble(app, ensemble, categories, model_version, fusion_section, door)
    _add_health(app, gateway, readiness)
    add_pages(app)
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
        response_model=SegmentAnswer,
        dependencies=[Depends(_authorised(door))],
        responses=_documented(_ERRORS),
        openapi_extra={"requestBody": _IMAGE_BODY},
        summary="Find and segment the objects of one image",
    )
    async def segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        deadline = gateway.deadline(query)
        with gateway.admitted():
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
        response_model=EnsembleAnswer,
        dependencies=[Depends(_authorised(door))],
        responses=_documented({401: _ERRORS[401], 503: _ERRORS[503]}),
        summary="Members, views, categories, fusion and limits of this service",
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
    @app.get("/healthz", summary="The gateway is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get(
        "/readyz",
        response_model=ReadyAnswer,
        responses=_documented({503: {"description": "Not every deployment has answered yet, or the service stops"}}),
        summary="Every deployment has answered a warm-up image",
    )
    async def readyz() -> Response:
        if gateway.draining:
            raise ProblemError(503, STOPPING, headers=RETRY_AFTER)
        if not readiness.ready:
            raise ProblemError(503, readiness.detail, headers=RETRY_AFTER)
        return Response(orjson.dumps({"ready": True, "detail": readiness.detail}), media_type="application/json")


def _authorised(door: Doorkeeper) -> Callable[..., Awaitable[None]]:
    async def check(authorization: Annotated[str | None, Header()] = None) -> None:
        door.check(authorization)

    return check


def _documented(errors: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Errors for OpenAPI, each with the problem's schema."""
    content = {problems.MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: entry | {"content": content} for status, entry in errors.items()}
