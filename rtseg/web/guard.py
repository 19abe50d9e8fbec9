"""The first thing that sees a request: refuses what may not come in."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from rtseg.web.access import Access

__all__ = ["Guard", "error_response"]

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN_PATHS = ("/login", "/api/login", "/healthz", "/static/")
"""What can be had without a token."""
_REFUSED = 1008
"""WebSocket close code: policy violation. Before the handshake is complete, it becomes the HTTP status 403."""


def error_response(status: int, problem: str) -> Response:
    """Return an error of the API: JSON with ``error``, a sentence."""
    return JSONResponse({"error": problem}, status)


class Guard:
    """Middleware that checks host, origin and token.

    Args:
        app: gets what is let in.
        access: decides.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; see ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close(_REFUSED)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        connection, access = HTTPConnection(scope), self._access
        if not access.is_known_host(connection):
            return error_response(421, "this page has no such name: --allow-host NAME allows one")
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if not is_safe and not access.is_same_origin(connection):
            return error_response(403, "another page sent this request")
        if not access.needs_token or scope["path"].startswith(_OPEN_PATHS):
            return None
        return self._check_token(connection)

    def _check_token(self, connection: HTTPConnection) -> Response | None:
        access = self._access
        address = connection.client.host if connection.client else ""
        if access.failures.is_reached(address):
            return error_response(429, "too many wrong tokens: wait a minute")
        is_right = access.has_token(connection)
        if is_right:
            return None
        if is_right is not None:
            access.failures.count(address)
        if connection.scope["type"] == "http" and "text/html" in connection.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return error_response(401, "a token is needed: send it as Authorization: Bearer TOKEN")
