"""Whether a server or device that was away answers again, without opening it."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EINPROGRESS, EWOULDBLOCK
from threading import Thread
from typing import Any

from rtseg.system.redact import split_url

__all__ = ["server_probe"]

_TIMEOUT_S = 1.0
_NEXT_S = 0.25
"""After so long without a connection, another one is tried. One that began while the network was cut off would be heard
only when TCP sends its first packet again, which is after 1 s.
"""
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_QUESTIONS = {
    "rtsp": b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "http": b"OPTIONS * HTTP/1.0\r\n\r\n",
}
"""Asked without user name or path. A server that is stopped accepts connections but does not answer."""
_Address = tuple[socket.AddressFamily, Any]


def server_probe(url: str, timeout_s: float | None = None) -> Callable[[], bool | None]:
    """Return a function that tells whether the server of ``url`` answers; None if only opening it would tell.

    It waits for ``timeout_s`` at most, by default 1 s, and as long again for a name server. UDP has no connections, and
    a plain TCP server may serve only one.
    """
    parts = split_url(url)
    scheme = parts.scheme.lower()
    port = parts.port or _PORTS.get(scheme)
    if not parts.hostname or port is None or scheme not in _PORTS:
        return lambda: None
    resolver, question = _Resolver(parts.hostname, port), _QUESTIONS.get(scheme)

    def answers() -> bool | None:
        longest_s = _TIMEOUT_S if timeout_s is None else timeout_s
        attempts = _Attempts(resolver.addresses(longest_s), question)
        try:
            return attempts.wait(longest_s)
        finally:
            attempts.close()

    return answers


class _Attempts:
    """Connections of which one is to answer."""

    def __init__(self, addresses: list[_Address], question: bytes | None) -> None:
        self._addresses, self._question = addresses, question
        self._sockets = selectors.DefaultSelector()
        self._has_asked = False

    def wait(self, timeout_s: float) -> bool | None:
        """Whether there is an answer; None if the server closes without one: it does not like the question."""
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while (now_s := time.monotonic()) < deadline_s:
            if now_s >= next_s and not self._has_asked:
                self._begin()
                next_s = now_s + _NEXT_S
            if not self._sockets.get_map():
                return False  # refused
            until_s = deadline_s if self._has_asked else min(next_s, deadline_s)
            for key, _ in self._sockets.select(until_s - now_s):
                assert isinstance(key.fileobj, socket.socket), "only sockets are registered"
                try:
                    if self._go_on(key.fileobj, is_asked=key.data):
                        return True
                except ConnectionError:
                    return None
                except OSError:  # e.g. its host cannot be reached any more
                    self._drop(key.fileobj)
        return False

    def _begin(self) -> None:
        for family, address in self._addresses:
            with suppress(OSError):  # e.g. no IPv6 here
                connection = socket.socket(family, socket.SOCK_STREAM)
                connection.setblocking(False)
                if connection.connect_ex(address) in (0, EINPROGRESS, EWOULDBLOCK):
                    self._sockets.register(connection, selectors.EVENT_WRITE, data=False)
                else:
                    connection.close()

    def _go_on(self, connection: socket.socket, *, is_asked: bool) -> bool:
        """Ask, or read the answer; returns whether the server answers.

        Raises:
            ConnectionError: it has closed the connection.
        """
        if is_asked:
            if connection.recv(1):
                return True
            raise ConnectionError
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(connection)
            return False
        if self._question is None:
            return True
        connection.send(self._question)
        self._sockets.modify(connection, selectors.EVENT_READ, data=True)
        self._has_asked = True
        return False

    def _drop(self, connection: socket.socket) -> None:
        self._sockets.unregister(connection)
        connection.close()

    def close(self) -> None:
        """Close all."""
        for key in list(self._sockets.get_map().values()):
            assert isinstance(key.fileobj, socket.socket), "only sockets are registered"
            self._drop(key.fileobj)
        self._sockets.close()


class _Resolver:
    """Looks up a host on a thread, because a lookup cannot be cancelled. There is one lookup at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._thread: Thread | None = None
        self._found: list[_Address] = []

    def addresses(self, timeout_s: float) -> list[_Address]:
        """Each with its family; none if there are none, or the name server does not answer within ``timeout_s``."""
        if self._thread is None:
            self._found = []
            self._thread = Thread(target=self._look_up, name="rtseg-lookup", daemon=True)
            self._thread.start()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return []
        self._thread = None
        return self._found

    def _look_up(self) -> None:
        with suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(*self._where, type=socket.SOCK_STREAM)
            self._found = list(dict.fromkeys((each[0], each[4]) for each in found))
