"""An HTTP server on loopback that keeps what is posted to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

WAIT_S = 20.0
"""Longest wait for a request. Reached only if a test fails."""


class Receiver:
    """What came, and the answers to give."""

    def __init__(self, answers: list[int], headers: dict[str, str]) -> None:
        self.answers = answers
        """Status codes for the first requests; later ones get 200."""
        self.headers = headers
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        """Path, headers and JSON body of each request."""
        self.before_answer: Callable[[], object] = lambda: None
        self.url = ""
        self._changed = Condition()

    def add(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> int:
        with self._changed:
            self.requests.append((path, headers, body))
            self._changed.notify_all()
            return self.answers.pop(0) if self.answers else 200

    def await_requests(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= number, WAIT_S), "no request came"


@contextmanager
def receiver(answers: list[int] | None = None, headers: dict[str, str] | None = None) -> Iterator[Receiver]:
    """Start it; its ``url`` ends in a slash."""
    state = Receiver(answers or [], headers or {})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = state.add(self.path, dict(self.headers), body)
            state.before_answer()
            self.send_response(code)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}/"
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(WAIT_S)
