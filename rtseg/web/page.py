"""The application that a web server serves: the page, its files and the API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from rtseg.version import __version__
from rtseg.web.access import Access
from rtseg.web.guard import Guard, error_response
from rtseg.web.headers import SecurityHeaders
from rtseg.web.live_socket import LiveSocket
from rtseg.web.login import log_in
from rtseg.web.source_run import SourceRun

__all__ = ["Page"]

_STATIC = Path(__file__).parent / "static"
_TRY_LATER = 1013
"""WebSocket close code."""


class Page:
    """The page of some sources.

    Args:
        sources: which may be running or not.
        access: who may use it.
        max_clients: most viewers at the same time.
    """

    def __init__(self, sources: Sequence[SourceRun], access: Access, *, max_clients: int = 32) -> None:
        self._sources = list(sources)
        self._access = access
        self._max_clients = max_clients
        self._clients = 0
        self._started_s = time.monotonic()
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/login", self._login_form),
                Route("/api/login", self._log_in, methods=["POST"]),
                Route("/api/status", self._show_status),
                WebSocketRoute("/live", self._live),
                Mount("/static", StaticFiles(directory=_STATIC)),
            ],
            middleware=[Middleware(SecurityHeaders), Middleware(Guard, access=access)],
            exception_handlers={HTTPException: _describe_error},
        )

    def status(self) -> dict[str, Any]:
        """Of the page and all sources, as JSON values."""
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "sources": [source.status() for source in self._sources],
        }

    async def _index(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def _show_status(self, request: Request) -> Response:
        return JSONResponse(self.status())

    async def _login_form(self, request: Request) -> Response:
        return FileResponse(_STATIC / "login.html")

    async def _log_in(self, request: Request) -> Response:
        return await log_in(request, self._access)

    async def _live(self, socket: WebSocket) -> None:
        if self._clients >= self._max_clients:
            await socket.accept()
            await socket.close(_TRY_LATER, "there are too many viewers")
            return
        self._clients += 1
        try:
            await LiveSocket(socket, self._sources, self.status).serve()
        finally:
            self._clients -= 1


async def _describe_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail)
