"""The application that a web server serves: the page, its files and the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from rtseg.app.model_pool import ModelPool
from rtseg.app.prometheus import StreamMetrics
from rtseg.web.access import Access
from rtseg.web.api import Api
from rtseg.web.clients import Clients
from rtseg.web.frame_hub import FrameHub
from rtseg.web.guard import Guard, error_response
from rtseg.web.headers import SecurityHeaders
from rtseg.web.live_socket import LiveSocket
from rtseg.web.login import log_in
from rtseg.web.page_status import PageStatus
from rtseg.web.sources import Sources

__all__ = ["Page"]

_STATIC = Path(__file__).parent / "static"
_TRY_LATER = 1013
"""WebSocket close code."""


class Page:
    """The page of some sources.

    Args:
        sources: which may be running or not.
        access: who may use it.
        pool: opens models that viewers ask for.
        metrics: of all sources.
        models: their names.
        recordings: folder of the recordings that viewers start.
        max_clients: most viewers at the same time.
    """

    def __init__(
        self,
        sources: Sources,
        access: Access,
        pool: ModelPool,
        metrics: StreamMetrics,
        *,
        models: Sequence[str] = (),
        recordings: Path,
        max_clients: int = 32,
    ) -> None:
        self._sources = sources
        self._access = access
        self._clients = Clients(max_clients)
        self._status = PageStatus(sources, self._clients)
        api = Api(self._sources, pool, metrics, models, recordings, self._clients, self._status)
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/login", self._login_form),
                Route("/api/login", self._log_in, methods=["POST"]),
                *api.routes(),
                WebSocketRoute("/live", self._live),
                Mount("/static", StaticFiles(directory=_STATIC)),
            ],
            middleware=[Middleware(SecurityHeaders), Middleware(Guard, access=access)],
            exception_handlers={HTTPException: _describe_error},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._hub = FrameHub(asyncio.get_running_loop())
        self._status.update()
        updating = asyncio.create_task(self._status.keep_up_to_date())
        try:
            yield
        finally:
            updating.cancel()

    async def _index(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def _login_form(self, request: Request) -> Response:
        return FileResponse(_STATIC / "login.html")

    async def _log_in(self, request: Request) -> Response:
        return await log_in(request, self._access)

    async def _live(self, socket: WebSocket) -> None:
        if self._clients.is_full:
            await socket.accept()
            await socket.close(_TRY_LATER, "there are too many viewers")
            return
        with self._clients.one_more():
            await LiveSocket(socket, self._sources, self._hub, self._status).serve()


async def _describe_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail)
