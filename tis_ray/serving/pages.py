"""The viewer at `/`, the reference at `/docs`, and their modules and styles below `/viewer/`.

The files are read once, before the first request: what a client asks for is looked up among them and never on the disk.
"""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response

_FOLDER = Path(__file__).parent / "viewer"
_PAGES = {"index.html": "/", "docs.html": "/docs"}
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Beside `headers.SAFE_HEADERS`. Pages run their own files alone and talk to this service alone; pictures are what the
# user chose.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # ask each time whether it has changed: a page never meets modules of another version
}


def add_pages(app: FastAPI) -> None:
    """Serve the two pages and every file they load; none of it needs a token or appears in the schema."""
    for file in sorted(_FOLDER.iterdir()):
        if file.suffix in _MEDIA_TYPES:
            path = _PAGES.get(file.name, f"/viewer/{file.name}")
            app.add_route(path, _endpoint(file.read_bytes(), _MEDIA_TYPES[file.suffix]), include_in_schema=False)


def _endpoint(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = _HEADERS | {"ETag": etag}

    async def serve(request: Request) -> Response:
        if etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return serve
