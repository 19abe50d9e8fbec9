"""Connections that cannot be held open for nothing, and cannot become too many."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedConnection"]

_HEAD_S = 10.0
"""Longest wait for the head of the first request, in seconds."""
_SPARE = 64
"""Connections beside those of the viewers, for the files of the page and the API."""


class BoundedConnection(H11Protocol):
    """A connection of uvicorn that is closed if no request comes, or if there are too many already."""

    most = 2 * 32 + _SPARE

    @classmethod
    def for_clients(cls, clients: int) -> type[BoundedConnection]:
        """For so many viewers: a browser may open two connections at once."""
        return type("BoundedConnection", (cls,), {"most": 2 * clients + _SPARE})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; see asyncio."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._timer = self.loop.call_later(_HEAD_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self.cycle is None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; see asyncio."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand over to the protocol of WebSockets; see uvicorn."""
        if self._timer is not None:
            self._timer.cancel()
        super().handle_websocket_upgrade(event)
