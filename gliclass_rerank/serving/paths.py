"""Accept the paths that clients make of a base URL: doubled slashes, a trailing slash, a version that comes twice."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DOUBLE_SLASH = re.compile("//+")
_DOUBLE_VERSION = re.compile(r"/v[12](?=/v[12]/)")  # Cohere's SDK adds /v1 to a base URL that ends in /v1


def normalize_path(path: str) -> str:
    """The path of the route that a client means.

    Args:
        path: The path as it came.

    Example:
        >>> normalize_path("//v1/v2/rerank/")
        '/v2/rerank'
    """
    path = _DOUBLE_SLASH.sub("/", path)
    path = _DOUBLE_VERSION.sub("", path)
    return path.rstrip("/") or "/"


class NormalizePaths:
    """ASGI middleware that routes requests by their normalized path, and HEAD like GET without the body.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under its normalized path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = normalize_path(scope["path"])
        if path == scope.get("root_path"):
            path += "/"
        is_head = scope["method"] == "HEAD"

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        inner = {**scope, "path": path, "method": "GET" if is_head else scope["method"]}
        await self._app(inner, receive, send_head if is_head else send)
