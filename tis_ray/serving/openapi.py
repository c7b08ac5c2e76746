"""The description of the HTTP interface: what FastAPI finds out by itself, and what it cannot know of bodies,
problems, headers and tokens. Nothing here decides how a request is answered."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from tis_ray.config import Limits
from tis_ray.serving import examples
from tis_ray.serving.problems import MEDIA_TYPE, ProblemError
from tis_ray.serving.schemas import Problem

Json = dict[str, Any]

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "image/gif", "image/jp2")
TAGS = [
    {"name": "segmentation", "description": "What the service is for."},
    {"name": "operation", "description": "For whoever runs it, and what watches over it; without a token."},
]
DESCRIPTION = (
    "Finds and segments tiny objects: one ensemble, many views, one answer. Boxes and masks are in the stored pixels "
    "of the image; its EXIF orientation is ignored. Every error of the service is a problem (RFC 9457); what Serve's "
    "proxy says in its place, where a gateway died (500) or there is none (503), is plain text."
)
_MEANING = {
    400: "The image is empty, cut short or none at all",
    401: "A token is missing or wrong",
    408: "The body stood still, or did not arrive before the deadline",
    413: "Too many bytes, or too many pixels by the image's own header",
    415: "Neither an image type nor multipart/form-data",
    422: "A query parameter is unknown or out of range",
    431: "The headers are too long",
    500: "The service failed on this request",
    503: "Too many requests are waiting, too few views answered in time, or the service is stopping",
    504: "The deadline passed",
}
_HEADERS: dict[int, Json] = {
    401: {
        "WWW-Authenticate": {
            "description": "The scheme that is expected (RFC 6750).",
            "required": True,
            "schema": {"type": "string", "const": "Bearer"},
        }
    },
    503: {
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1, "examples": [1]},
        }
    },
}
_BINARY = {"type": "string", "format": "binary"}
IMAGE_BODY: Json = {
    "description": "The bytes of one image, or a form with one file. Which kind of image it is, the bytes say; any "
    "`image/` type is taken. Of an animation the first frame is segmented.",
    "required": True,
    "content": {
        **{kind: {"schema": _BINARY} for kind in IMAGE_TYPES},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": _BINARY},
                "required": ["image"],
            },
            "encoding": {"image": {"contentType": ", ".join(IMAGE_TYPES)}},
        },
    },
}


def problems(
    *statuses: int, closed: bool = False, unavailable: Mapping[str, ProblemError] | None = None
) -> dict[int | str, Json]:
    """The answers of an operation that may end in problems of these statuses: 401 only where the service is `closed`,
    503 by the examples of `unavailable`, where there are any."""
    shown = examples.PROBLEMS | ({503: unavailable} if unavailable else {})
    return {status: _problem(status, shown[status]) for status in statuses if closed or status != 401}


def _problem(status: int, shown: Mapping[str, ProblemError]) -> Json:
    values = {name: {"summary": problem.detail, "value": problem.content()} for name, problem in shown.items()}
    answer: Json = {
        "description": _MEANING[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": values}},
    }
    return answer | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def answers(shown: Mapping[str, Json]) -> dict[int | str, Json]:
    """The answer of an operation that went well, by named examples."""
    return {200: {"content": {"application/json": {"examples": dict(shown)}}}}


def operation(*, closed: bool, **more: Any) -> Json:
    """What else to say of an operation: that it needs a token, where the service is `closed`."""
    return ({"security": [{"bearer": []}]} if closed else {}) | more


def describe(app: FastAPI, *, closed: bool, limits: Limits) -> None:
    """Have `app` describe itself so; `closed` where the service asks for tokens."""

    def made() -> Json:
        if app.openapi_schema is None:
            api = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
            )
            for route in app.routes:
                if isinstance(route, APIRoute) and route.include_in_schema:
                    _show_nulls(api, route)
            _tell_limits(api["paths"]["/v1/segment"]["post"], limits)
            components = api.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
            if closed:
                components["securitySchemes"] = {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of whoever runs it."}
                }
            app.openapi_schema = api
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]


def _show_nulls(api: Json, route: APIRoute) -> None:
    """Write the examples once more: FastAPI leaves null out of them, which answers do not."""
    for method in route.methods or ():
        described = api["paths"][route.path][method.lower()]["responses"]
        for status, answer in route.responses.items():
            for kind, content in answer["content"].items():
                described[str(status)]["content"][kind]["examples"] = content["examples"]


def _tell_limits(segment: Json, limits: Limits) -> None:
    for parameter in segment["parameters"]:
        if parameter["name"] == "deadline_s":
            parameter["schema"]["anyOf"][0]["maximum"] = limits.max_deadline_s
            parameter["description"] += f" Without it, {limits.deadline_s:g}."
    segment["requestBody"]["description"] += f" At most {limits.max_bytes} bytes and {limits.max_pixels} pixels."
