"""Runs ``rtsp_server.py`` as a process that a test can kill, stop and start again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np

from rtseg.frame import Image

SERVER = Path(__file__).with_name("rtsp_server.py")
FPS = 30
_CELL = 8
_BITS = 12


def write_numbered_clip(
    path: Path,
    frames: int = 90,
    size: tuple[int, int] = (96, 128),
    seed: int = 1,
    images: Iterator[Image] | None = None,
) -> Path:
    """Write an H.264 stream whose images, uint8 (H, W, 3), bear their number; ``read_number`` reads it back.

    They are noise, or the endless ``images``, of any size.
    """
    random = np.random.default_rng(seed)
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "g": "15",
            "x264-params": "repeat-headers=1:slices=1:sliced-threads=0:threads=1",
        }
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(frames):
            if images is None:
                image = random.integers(60, 200, (*size, 3), dtype=np.uint8)
            else:
                image = cv2.resize(next(images), size[::-1], interpolation=cv2.INTER_AREA)
            for bit in range(_BITS):
                image[:_CELL, bit * _CELL : (bit + 1) * _CELL] = 255 * (number >> bit & 1)
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_number(image: Image) -> int:
    """The number that an image of ``write_numbered_clip`` bears."""
    cells = (image[2 : _CELL - 2, bit * _CELL + 2 : (bit + 1) * _CELL - 2].mean() for bit in range(_BITS))
    return sum((mean > 127) << bit for bit, mean in enumerate(cells))


class RtspProcess:
    """An RTSP server on loopback, which sends ``fps`` frames per second. Use it in ``with``."""

    def __init__(self, clip: Path, *arguments: str, port: int = 0, fps: float = FPS) -> None:
        self.fps = fps
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), str(clip), "--port", str(port), "--fps", str(fps), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready, port_text, start = self._process.stdout.readline().split()
        assert ready == "READY"
        self.port = int(port_text)
        self.start_s = float(start)
        """``time.monotonic()`` of frame 0."""

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def true_age_s(self, image: Image, frames: int) -> float:
        """How long ago the server was to send ``image`` of a clip with so many ``frames``; less than its length."""
        return (time.monotonic() - self.start_s - read_number(image) / self.fps) % (frames / self.fps)

    def tell(self, line: str) -> None:
        """Send a command; see ``rtsp_server.py``."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """Let it accept connections but do nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
