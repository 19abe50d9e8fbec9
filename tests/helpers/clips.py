"""Small clips with known times and colours, and a server that can fail."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 64, 48


def make_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A grey BGR image whose level encodes its number."""
    return np.full((height, width, 3), 40 + 7 * number % 200, np.uint8)


def noise(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Images that differ enough to detect wrongly decoded frames."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 255, (count, 6, 8, 3), dtype=np.uint8)
    return [np.kron(block, np.ones((8, 8, 1), np.uint8)) for block in blocks]


def write_clip(
    path: Path,
    stamps: Sequence[int] = range(10),
    *,
    rate: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotate: tuple[float, bool, bool] | None = None,
    images: Sequence[NDArray[np.uint8]] | None = None,
) -> Path:
    """Encode one image for each of ``stamps``, in units of 1 / ``rate`` seconds."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.options = options or {}
        stream.codec_context.time_base = Fraction(1, rate)
        if rotate is not None:
            stream.set_display_rotation(rotate[0], hflip=rotate[1], vflip=rotate[2])
        for number, stamp in enumerate(stamps):
            array = make_image(number, *size) if images is None else images[number]
            frame = av.VideoFrame.from_ndarray(array, "bgr24")
            frame.pts, frame.time_base = stamp, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves ``/good/NAME`` from ``folder``. Other paths make it fail in different ways."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: list[str] = []
        self.closing = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect, as some tests do."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, behaviour, name = self.path.partition("?")[0].split("/", 2)
        if behaviour == "silent":
            self.server.closing.wait(20)
            return
        if behaviour in ("401", "404", "500"):
            self.send_error(int(behaviour))
            return
        data = (self.server.folder / name).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0]) if behaviour == "good" else 0
        self.send_response(206 if start else 200)
        if behaviour != "live":
            self.send_header("Content-Length", str(len(data) - start))
        if behaviour == "good":
            self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if behaviour == "stalls":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.closing.wait(20)
        elif behaviour == "breaks":
            self.wfile.write(data[: len(data) // 2])
        else:
            self.wfile.write(data[start:])

    def log_message(self, *args: object) -> None:
        """Log nothing."""
