"""Errors of the HTTP interface as problem details (RFC 9457): one form for every status, FastAPI's own included."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tis_ray.serving.schemas import SegmentQuery

logger = logging.getLogger("ray.serve")

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that is refused: HTTP `status`, one sentence, and the field with what was expected and what came."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = {"field": field, "expected": expected, "got": got}
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """The problem as JSON."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        body.update({key: value for key, value in self.members.items() if value is not None})
        return body

    def response(self) -> Response:
        """The problem as an HTTP response."""
        return Response(orjson.dumps(self.content()), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error that leaves `app` a problem."""
    app.add_exception_handler(ProblemError, _from_problem)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(Exception, _from_defect)


async def _from_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _from_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place, *path = first["loc"]
    field = ".".join(map(str, path)) or str(place)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        expected = f"one of {', '.join(SegmentQuery.model_fields)}"  # no other route knows any
    return ProblemError(
        422,
        f"{place} parameter {field}: expected {expected}",
        field=field,
        expected=expected,
        got=_short(first["input"]),
    ).response()


async def _from_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = _with_head(headers["Allow"])
    return ProblemError(error.status_code, detail, headers=headers).response()


def _with_head(allowed: str) -> str:
    """Methods in their own order, HEAD among them where GET is: `HeadAsGet` answers it for the routes."""
    methods = set(allowed.split(", "))
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


async def _from_defect(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return ProblemError(500, "the service failed on this request; its log says why").response()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
