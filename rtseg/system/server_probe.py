"""Whether a server or device that was away answers again, without opening it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from rtseg.system.redact import split_url

__all__ = ["server_probe"]

_TIMEOUT_S = 0.5
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_QUESTIONS = {
    "rtsp": b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "http": b"OPTIONS * HTTP/1.0\r\n\r\n",
}
"""Asked without user name or path. A server that is stopped accepts connections but does not answer."""


def server_probe(url: str) -> Callable[[], bool | None]:
    """Return a function that tells whether the server of ``url`` answers; None if only opening it would tell.

    It takes at most half a second, also where the name server does not answer. UDP has no connections, and a plain TCP
    server may serve only one.
    """
    parts = split_url(url)
    scheme = parts.scheme.lower()
    port = parts.port or _PORTS.get(scheme)
    if not parts.hostname or port is None or scheme not in _PORTS:
        return lambda: None
    resolver, question = _Resolver(parts.hostname), _QUESTIONS.get(scheme)

    def answers() -> bool | None:
        deadline_s = time.monotonic() + _TIMEOUT_S
        for address in resolver.addresses(_TIMEOUT_S):
            with suppress(OSError), socket.create_connection((address, port), _left_s(deadline_s)) as connection:
                return True if question is None else _answers(connection, question, deadline_s)
        return False

    return answers


def _answers(connection: socket.socket, question: bytes, deadline_s: float) -> bool | None:
    """Whether there is an answer; None if the server closes without one: it does not like the question."""
    try:
        connection.sendall(question)
        connection.settimeout(_left_s(deadline_s))
        return True if connection.recv(1) else None
    except ConnectionError:
        return None


def _left_s(deadline_s: float) -> float:
    return max(1e-3, deadline_s - time.monotonic())  # 0 would mean not to wait at all


class _Resolver:
    """Looks up a host on a thread, because a lookup cannot be cancelled. There is one lookup at a time."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._thread: Thread | None = None
        self._found: list[str] = []

    def addresses(self, timeout_s: float) -> list[str]:
        """Numeric addresses; none if there are none, or the name server does not answer within ``timeout_s``."""
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
            found = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            self._found = list(dict.fromkeys(str(each[4][0]) for each in found))
