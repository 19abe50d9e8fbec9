"""Pages for tests: what their images show, and viewers without a browser."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import numpy as np
from helpers.label_runs import decode_runs
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from rtseg.app.cameras import Camera
from rtseg.app.options import StreamOptions
from rtseg.web.options import PageOptions
from rtseg.web.server import PageServer

SIZE = (60, 80)
"""(H, W) of the images and of the model's input."""
LEFT, RIGHT = 20, 150
"""Classes of the two halves of every image."""
TIMEOUT_S = 20


@contextmanager
def serving(runs: list[StreamOptions], options: PageOptions) -> Iterator[PageServer]:
    """A server on a thread of its own."""
    cameras = [Camera(str(number), run) for number, run in enumerate(runs)]
    with PageServer(cameras, options) as server:
        thread = Thread(target=server.run, name="rtseg-test-server")
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


@dataclass
class FrameMessage:
    """A frame as a viewer gets it."""

    is_key: bool
    source: int
    index: int
    pts_s: float
    captured_ms: float
    size: tuple[int, int]
    labels: NDArray[np.uint8]
    chunk: bytes

    @classmethod
    def parse(cls, message: bytes) -> FrameMessage:
        header = struct.Struct("<BBHIddHHHHII")
        kind, flags, source, index, pts_s, captured_ms, width, height, columns, rows, label_bytes, chunk_bytes = (
            header.unpack_from(message)
        )
        assert kind == 1
        assert len(message) == header.size + label_bytes + chunk_bytes
        coded, chunk = message[header.size : header.size + label_bytes], message[header.size + label_bytes :]
        labels = decode_runs(coded).reshape(rows, columns)
        return cls(bool(flags & 1), source, index, pts_s, captured_ms, (height, width), labels, chunk)


class Viewer:
    """A viewer that watches some sources."""

    def __init__(self, address: str, *sources: str, **options: Any) -> None:
        self._opening = connect(address.replace("http", "ws", 1) + "live", open_timeout=TIMEOUT_S, **options)
        self._sources = list(sources)

    def send(self, message: object) -> None:
        self.socket.send(json.dumps(message))

    def frame(self) -> FrameMessage:
        """The next frame."""
        while True:
            message = self.socket.recv(TIMEOUT_S)
            if isinstance(message, bytes):
                return FrameMessage.parse(message)

    def text(self, kind: str) -> dict[str, Any]:
        """The next message of this type."""
        while True:
            message = self.socket.recv(TIMEOUT_S)
            if isinstance(message, str):
                value: dict[str, Any] = json.loads(message)
                if value["type"] == kind:
                    return value

    def until_closed(self) -> None:
        """Read until the server ends the connection, whose error is raised."""
        while True:
            self.socket.recv(TIMEOUT_S)

    def __enter__(self) -> Viewer:
        self.socket: ClientConnection = self._opening.__enter__()
        self.send({"type": "watch", "sources": self._sources})
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opening.__exit__(*exc_info)
