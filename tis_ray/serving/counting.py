"""Counts the answers of one path by their HTTP status, whoever gave them."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLIENT_GONE = 499  # nobody gets it: what web servers write in their logs for a client that hung up


class CountStatuses:
    """Tells `ended` the status of every request for `path`; it belongs around all that answers."""

    def __init__(self, app: ASGIApp, *, path: str, ended: Callable[[int], None]) -> None:
        self._app = app
        self._path = path
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != scope.get("root_path", "") + self._path:
            await self._app(scope, receive, send)
            return
        statuses = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            statuses.append(CLIENT_GONE)
            raise
        except Exception:
            statuses.append(500)
            raise
        finally:
            if statuses:
                self._ended(statuses[0])
