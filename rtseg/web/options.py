"""Options of ``rtseg serve``. Importing them loads no library."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["PageOptions"]

_PAGE, _ACCESS = "Page", "Access"
_PORTS = 65535
_MAX_CLIENTS = 1000


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Where the page is served, and to whom.

    Raises:
        OptionError: a value is out of range, or two options contradict each other.
    """

    host: Annotated[str, Option(_PAGE)] = "127.0.0.1"
    """Address to listen on. Any other than this machine's own (loopback) demands a token from every viewer."""
    port: Annotated[int, Option(_PAGE)] = 8080
    """Port to listen on. 0 takes a free one."""
    max_clients: Annotated[int, Option(_PAGE)] = 32
    """Most viewers at the same time."""
    max_side: Annotated[int, Option(_PAGE, metavar="PIXELS")] = 1280
    """Larger images are shrunk for viewers, so that their longest side has this many pixels."""
    recordings: Annotated[Path, Option(_PAGE, metavar="FOLDER")] = Path("recordings")
    """Folder for recordings that viewers start; it is created when it is needed."""
    token_file: Annotated[Path | None, Option(_ACCESS, metavar="FILE")] = None
    """Read the token from the first line of this file. Without it, a token is made and printed where one is needed."""
    allow_host: Annotated[tuple[str, ...], Option(_ACCESS, metavar="NAME")] = ()
    """Name by which browsers may ask for the page, e.g. that of a proxy. Can be repeated. IP addresses and localhost
    are always allowed."""
    tls_cert: Annotated[Path | None, Option(_ACCESS, metavar="FILE")] = None
    """Certificate (PEM) for HTTPS."""
    tls_key: Annotated[Path | None, Option(_ACCESS, metavar="FILE")] = None
    """Private key (PEM) of the certificate."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= _PORTS:
            raise OptionError(f"--port must be 0 to {_PORTS}, got {self.port}")
        if not 1 <= self.max_clients <= _MAX_CLIENTS:
            raise OptionError(f"--max-clients must be 1 to {_MAX_CLIENTS}, got {self.max_clients}")
        if not 64 <= self.max_side <= 4096:
            raise OptionError(f"--max-side must be 64 to 4096 pixels, got {self.max_side}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise OptionError("--tls-cert and --tls-key belong together: give both of them")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
