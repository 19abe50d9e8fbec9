"""Runs the sources and serves their page: what ``rtseg serve`` does."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Self

import uvicorn

from rtseg.app.cameras import Camera
from rtseg.app.model_pool import ModelPool
from rtseg.app.prometheus import StreamMetrics
from rtseg.errors import OptionError
from rtseg.web.access import Access, read_token
from rtseg.web.cameras_file import CamerasFile
from rtseg.web.connections import BoundedConnection, BoundedListener
from rtseg.web.options import PageOptions
from rtseg.web.page import Page
from rtseg.web.source_run import SourceRun
from rtseg.web.sources import Sources
from rtseg.weights import bundled_models

__all__ = ["PageServer"]

_END_S = 1
"""How long open connections may go on after the signal, in seconds."""
_BACKLOG = 128
"""Connections that wait to be accepted."""
_MAX_MESSAGE = 1 << 16
"""Of a viewer, in bytes."""


class PageServer:
    """The sources of a page and its web server. Use it in ``with``, which ends the sources.

    Args:
        cameras: the sources.
        options: of the page.
        config: the file that names the cameras, if one does, and a function that reads it. Its changes are taken over.
        say: gets a line about each change.

    Raises:
        RtsegError: the address, the certificate, the token file, a source or a model cannot be used.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        options: PageOptions,
        config: tuple[Path, Callable[[], Sequence[Camera]]] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._options = options
        needs_token = not options.is_loopback or options.token_file is not None
        self._token = read_token(options.token_file) if needs_token else None
        _check_certificate(options)
        with ExitStack() as opened:
            self._socket = opened.enter_context(_listen(options.host, options.port))
            self._socket.allow_clients(options.max_clients)
            pool = ModelPool("throughput" if len(cameras) > 1 else None)
            metrics = StreamMetrics()

            def open_run(number: int, camera: Camera) -> SourceRun:
                side, folder = options.max_side, options.recordings
                return SourceRun(number, camera, pool, metrics, max_side=side, recordings=folder)

            self.sources = Sources(cameras, open_run)
            opened.callback(self._end_sources, say)
            self._file = None if config is None else CamerasFile(*config, self.sources, say)
            if self._file is not None:
                opened.callback(self._file.stop)
            names = (options.host, socket.gethostname(), *options.allow_host)
            access = Access(self._token, names, secure=options.tls_cert is not None)
            models = dict.fromkeys([*(camera.options.model for camera in cameras), *bundled_models()])
            self._page = Page(
                self.sources,
                access,
                pool,
                metrics,
                models=list(models),
                recordings=options.recordings,
                max_clients=options.max_clients,
            )
            self._opened = opened.pop_all()
        self._server = _Server(self._config())

    @property
    def address(self) -> str:
        """What to open in a browser."""
        host, port = self._socket.getsockname()[:2]
        host = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        scheme = "http" if self._options.tls_cert is None else "https"
        return f"{scheme}://{host}:{port}/"

    @property
    def new_token(self) -> str | None:
        """The token, if one was made that the user does not know yet."""
        return self._token if self._options.token_file is None else None

    @property
    def notice(self) -> str:
        """What the user should know about the address; may be empty."""
        if self._options.is_loopback or self._options.tls_cert is not None:
            return ""
        return (
            "page: anyone on the way can read the token and the images of plain HTTP, and browsers there get MJPEG: "
            "--tls-cert and --tls-key serve HTTPS"
        )

    def run(self) -> None:
        """Start the sources and serve until ``stop`` or, on the main thread, a signal, which is then raised again."""
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of viewers who leave while they are sent to
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
        self.sources.start()
        if self._file is not None:
            self._file.start()
        self._server.run(sockets=[self._socket])
        if self._server.ended_by == signal.SIGINT:  # where the event loop has not raised it again
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End ``run``. Any thread may call it."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opened.close()

    def _end_sources(self, say: Callable[[str], None]) -> None:
        for line in self.sources.stop():
            say(line)

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._page.app,
            http=BoundedConnection,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_END_S,
            ws_max_size=_MAX_MESSAGE,
            ws_per_message_deflate=False,  # frames are compressed already
            ssl_certfile=self._options.tls_cert,
            ssl_keyfile=self._options.tls_key,
        )


class _Server(uvicorn.Server):
    """Remembers the signal that ended it."""

    ended_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal."""
        self.ended_by = sig
        super().handle_exit(sig, frame)


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Whether a line of the log is about anything else than requests that are cut off at the end, e.g. streams."""
    is_cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not is_cut and not str(record.msg).startswith("Cancel %s running task(s)")


def _check_certificate(options: PageOptions) -> None:
    """Load the certificate before anything slow happens.

    Raises:
        OptionError: it cannot be used.
    """
    if options.tls_cert is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:
        reason = error.strerror or getattr(error, "reason", None) or type(error).__name__
        raise OptionError(
            f"--tls-cert {options.tls_cert} --tls-key {options.tls_key} cannot be used ({reason}): "
            "give a certificate and its private key, both PEM"
        ) from error


def _listen(host: str, port: int) -> BoundedListener:
    """Open the socket before anything slow happens.

    Raises:
        OptionError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol: else asyncio does not turn off Nagle's algorithm, which delays messages by 40 ms.
        listening = BoundedListener(family, kind, protocol)
    except OSError as error:
        raise _unusable(host, port, error) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _unusable(host, port, error) from error
    return listening


def _unusable(host: str, port: int, error: OSError) -> OptionError:
    reason = error.strerror or type(error).__name__
    return OptionError(f"--host {host} --port {port} cannot be used ({reason}): choose another one")
