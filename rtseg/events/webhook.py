"""Sends events to a URL."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from threading import Timer
from typing import Final

from rtseg.errors import OptionError
from rtseg.events.event import Event
from rtseg.events.outbox import Destination, SendFailed
from rtseg.system.read_file import read_text
from rtseg.system.redact import redact, split_url
from rtseg.version import __version__

__all__ = ["TOKEN_VARIABLE", "Webhook", "read_token"]

TOKEN_VARIABLE = "RTSEG_EVENTS_TOKEN"
_TIMEOUT_S: Final = 5.0
"""For the connection, and for each answer of the server."""
_TOTAL_S: Final = 10.0
"""For one event: a server that sends its answer byte by byte keeps within the other limit."""
_MAX_ANSWER_BYTES: Final = 4096
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_token(path: Path | None) -> str:
    """The token for webhooks: from a file, or else the environment variable ``RTSEG_EVENTS_TOKEN``; may be empty.

    Raises:
        OptionError: the file cannot be read, or it is no token.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    where = TOKEN_VARIABLE
    if path is not None:
        where = f"--events-token {path}"
        try:
            token = read_text(path).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise OptionError(f"{where} cannot be read ({reason}): give a file with the token") from error
        if not token:
            raise OptionError(f"{where} is empty: write the token into it")
    if token and not (token.isascii() and token.isprintable() and len(token) <= 4096 and " " not in token):
        raise OptionError(f"{where} is not a token: it must be one word of at most 4096 ASCII characters")
    return token


class Webhook(Destination):
    """Posts each event as JSON to an HTTP server; the snapshot is a field of its own, in base64.

    Redirects are not followed, and proxies of the environment are not used. An answer of 2xx is success. Other answers
    drop the event, but 408, 425, 429 and 5xx are tried again.

    Args:
        url: http:// or https://. Its path is a secret of many services, so that messages only show its host.
        token: sent as ``Authorization: Bearer``; may be empty.

    Raises:
        OptionError: the URL is malformed, or holds a user name.
    """

    def __init__(self, url: str, token: str = "") -> None:
        parts = split_url(url)
        if not parts.hostname or parts.username is not None:
            hint = "give the token with --events-token" if parts.hostname else "give https://HOST/PATH"
            raise OptionError(f"--events-to {redact(url)} is not an address of a webhook: {hint}")
        self._is_tls = parts.scheme.lower() == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not (self._path.isascii() and self._path.isprintable()):
            raise OptionError(f"--events-to {redact(url)}: write signs that are not ASCII as %XX")
        self._token = token
        shown = f"[{self._host}]" if ":" in self._host else self._host
        port = f":{self._port}" if self._port else ""
        self.name = f"webhook {parts.scheme.lower()}://{shown}{port}" + ("/***" if self._path != "/" else "")
        self._connection: http.client.HTTPConnection | None = None
        self._is_aborted = False

    @property
    def notice(self) -> str:
        """A warning where the events are sent in the clear."""
        if self._is_tls or self._host in _LOOPBACK:
            return ""
        what = "the token and the images" if self._token else "the images"
        return f"{self.name}: http:// sends {what} in the clear: use https:// if the server has it"

    def send(self, event: Event) -> None:
        """See ``Destination``."""
        body = event.to_json()
        if event.snapshot is not None:
            body["snapshot"] = base64.b64encode(event.snapshot).decode()
            body["snapshot_type"] = "image/jpeg"
        status, reason = self._post(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
        if 200 <= status < 300:
            return
        text = f"the server answers {status} {redact(reason)[:80]}".rstrip()
        if 300 <= status < 400:
            text = f"the server redirects ({status}), which is not followed: give the final address"
        raise SendFailed(text, final=not (status >= 500 or status in (408, 425, 429)))

    def _post(self, body: bytes) -> tuple[int, str]:
        connection = self._connect()
        self._connection = connection
        watchdog = Timer(_TOTAL_S, _shut, [connection])
        watchdog.daemon = True
        watchdog.start()
        try:
            if self._is_aborted:
                raise SendFailed("the run ends")
            connection.request("POST", self._path, body, self._headers())
            answer = connection.getresponse()
            answer.read(_MAX_ANSWER_BYTES)
            return answer.status, _displayable(answer.reason) or _phrase(answer.status)
        except TimeoutError as error:
            raise SendFailed(f"no answer within {_TIMEOUT_S:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise SendFailed(f"no answer ({_reason(error)})") from error
        finally:
            watchdog.cancel()
            self._connection = None
            connection.close()
            watchdog.join()

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"rtseg/{__version__}", "Connection": "close"}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    def abort(self) -> None:
        """See ``Destination``."""
        self._is_aborted = True
        connection = self._connection
        if connection is not None:
            _shut(connection)


def _shut(connection: http.client.HTTPConnection) -> None:
    """End a call that waits on the socket."""
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    text = getattr(error, "strerror", None) or type(error).__name__
    return _displayable(redact(text))[:120]


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


def _displayable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()
