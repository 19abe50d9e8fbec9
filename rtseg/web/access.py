"""Who may use the page: hosts, origins, the token and its cookie."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from rtseg.errors import OptionError

__all__ = ["COOKIE", "Access", "FailureLimit", "read_token"]

COOKIE = "rtseg"
_MIN_LENGTH = 16
"""Of a token that a user chooses, in characters."""
_MAX_TOKEN_FILE = 4096
_WINDOW_S = 60.0
_MAX_FAILURES = 10
"""Wrong tokens from one address within the window; then every further try is refused until it is over."""
_MAX_ADDRESSES = 1024


class FailureLimit:
    """Counts wrong tokens for each address. Use it on one thread."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, int]] = {}
        """Start of the window, and how many failures there were in it."""

    def is_reached(self, address: str) -> bool:
        """Whether ``address`` must wait."""
        started_s, count = self._failures.get(address, (0.0, 0))
        return count >= _MAX_FAILURES and time.monotonic() - started_s < _WINDOW_S

    def count(self, address: str) -> None:
        """Count a failure of ``address``."""
        now_s = time.monotonic()
        started_s, count = self._failures.pop(address, (now_s, 0))
        if now_s - started_s >= _WINDOW_S:
            started_s, count = now_s, 0
        self._failures[address] = started_s, count + 1
        while len(self._failures) > _MAX_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))


class Access:
    """Decides about requests.

    Args:
        token: demanded from everyone; None lets everyone in.
        hosts: names that the ``Host`` header may have, besides localhost and IP addresses. A page elsewhere that gets
            its own name resolved to this machine (DNS rebinding) sends that name.
        secure: whether the page is served by HTTPS.
    """

    def __init__(self, token: str | None, hosts: Sequence[str] = (), *, secure: bool = False) -> None:
        self._token = token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self.secure = secure
        self.failures = FailureLimit()

    @property
    def needs_token(self) -> bool:
        """Whether a token is demanded."""
        return self._token is not None

    @property
    def cookie(self) -> str:
        """Value of the cookie of those who gave the token; the token cannot be found from it."""
        return hmac.new((self._token or "").encode(), b"rtseg cookie", hashlib.sha256).hexdigest()

    def is_known_host(self, connection: HTTPConnection) -> bool:
        """Whether the ``Host`` header is a name of this page."""
        values = connection.headers.getlist("host")
        if len(values) != 1:
            return False
        name = _host_name(values[0])
        return name is not None and (name in self._hosts or _is_address(name))

    @staticmethod
    def is_same_origin(connection: HTTPConnection) -> bool:
        """Whether no other page sent the request. Browsers name the page in ``Origin``; other programs need not."""
        origin = connection.headers.get("origin")
        if origin is None:
            return connection.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        scheme = {"ws": "http", "wss": "https"}.get(connection.url.scheme, connection.url.scheme)
        return origin.lower() == f"{scheme}://{connection.headers.get('host', '').lower()}"

    def is_right_token(self, token: str) -> bool:
        """Compare in constant time."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def has_token(self, connection: HTTPConnection) -> bool | None:
        """Whether the request bears the token, as ``Authorization: Bearer`` or as cookie; None if it bears none."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_right_token(token.strip())
        cookie = connection.cookies.get(COOKIE)
        return None if cookie is None else hmac.compare_digest(cookie.encode(), self.cookie.encode())


def read_token(path: Path | None) -> str:
    """Return the token in the first line of a file, or a new random one if there is no file.

    Raises:
        OptionError: the file cannot be read, or holds no token of sufficient length.
    """
    if path is None:
        return secrets.token_urlsafe(24)
    try:
        with path.open("rb") as file:
            line = file.read(_MAX_TOKEN_FILE).partition(b"\n")[0]
        token = line.decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise OptionError(f"--token-file {path} cannot be read, {reason}: choose another file") from error
    if len(token) < _MIN_LENGTH or not token.isprintable() or " " in token:
        raise OptionError(
            f"--token-file {path}: its first line must be a token of at least {_MIN_LENGTH} characters without blanks: "
            "make one with `openssl rand -base64 24`"
        )
    return token


def _host_name(host: str) -> str | None:
    """The name in a ``Host`` header, without the port; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises an error where it is no number
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and parts.username is None else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
