"""Whether a server or device that was away answers again, without opening it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

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

    UDP has no connections, and a plain TCP server may serve only one.
    """
    parts = split_url(url)
    scheme = parts.scheme.lower()
    port = parts.port or _PORTS.get(scheme)
    if not parts.hostname or port is None or scheme not in _PORTS:
        return lambda: None
    address, question = (parts.hostname, port), _QUESTIONS.get(scheme)

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            if question is None:
                return True
            connection.sendall(question)
            return bool(connection.recv(1))
        return False

    return answers
