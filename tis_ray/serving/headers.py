"""Headers: those of a request are bounded, those of an answer tell a browser to do nothing with it but read it."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tis_ray.serving.problems import ProblemError

MAX_HEADER_BYTES = 16 * 1024
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # an answer is no page; pages have another
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """Adds `SAFE_HEADERS` to every answer that does not set them itself, errors and defects included.

    There is no CORS header among them: pages of other origins read nothing of this service.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely)


class HeaderLimit:
    """Answers 431 where names and values of the headers are longer than `MAX_HEADER_BYTES` together."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(name) + len(value) for name, value in scope.get("headers", ()))
        if size <= MAX_HEADER_BYTES:
            await self._app(scope, receive, send)
            return
        problem = ProblemError(
            431,
            "the headers are too long",
            field="headers",
            expected=f"at most {MAX_HEADER_BYTES} bytes",
            got=f"{size}",
        )
        await problem.response()(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET is answered, without the body: what a load balancer or `curl -I` asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)
