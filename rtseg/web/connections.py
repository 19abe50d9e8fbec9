"""Connections that cannot be held open for nothing, and cannot become too many."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedConnection", "BoundedListener"]

_HEAD_S = 10.0
"""Longest wait for the head of the first request, in seconds."""
_REQUEST_S = 30.0
"""Longest time that a request may take to arrive, from the first byte of its head to the last of its body."""
_LINGER_S = 2.0
"""How long what is left of a body is read after the answer, which the client might otherwise not get."""
_READ_S = 30.0
"""Longest wait for a client that reads nothing of its answer."""
_SPARE = 64
"""Connections beside those of the viewers, for the files of the page and the API."""


class BoundedListener(socket.socket):
    """A listening socket that drops connections while too many are open, also those that have yet to agree upon TLS."""

    most = 2 * 32 + _SPARE
    """Connections that may be open."""

    def allow_clients(self, clients: int) -> None:
        """Allow so many viewers: a browser may open two connections at once."""
        self.most = 2 * clients + _SPARE

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; see ``socket``.

        Raises:
            ConnectionAbortedError: it was dropped.
        """
        connection, address = super().accept()
        self._open = [each for each in getattr(self, "_open", ()) if each.fileno() >= 0]
        if len(self._open) >= self.most:
            connection.close()
            raise ConnectionAbortedError("too many connections")
        self._open.append(connection)
        return connection, address


class BoundedConnection(H11Protocol):
    """A connection of uvicorn that is closed if nothing goes on.

    uvicorn itself bounds only the pause between two requests.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; see asyncio."""
        super().connection_made(transport)
        self._request_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._request_timer = self.loop.call_later(_HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; see asyncio."""
        super().data_received(data)
        if not self._is_arriving:
            self._end_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(_REQUEST_S, self.transport.abort)

    @property
    def _is_arriving(self) -> bool:
        """Whether a part of a request has come, but not yet all."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def on_response_complete(self) -> None:
        """Wait for the next request; but not for the rest of a body that nobody wants to have. See uvicorn."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._end_request_timer()
            self._request_timer = self.loop.call_later(_LINGER_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Wait until the client has read; see asyncio."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(_READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on; see asyncio."""
        super().resume_writing()
        self._end_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; see asyncio."""
        self._end_request_timer()
        super().connection_lost(exc)
        self._end_read_timer()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand over to the protocol of WebSockets; see uvicorn."""
        self._end_request_timer()
        super().handle_websocket_upgrade(event)

    def _end_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _end_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
