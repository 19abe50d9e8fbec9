"""One connection of a stream: the process that encodes and sends, as its parent sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from rtseg.frame import Image
from rtseg.sinks._stream_process import HEADER, StreamTarget

__all__ = ["CLOSE_S", "ConnectionFailed", "SendingProcess", "StreamImage"]

CLOSE_S: Final = 1.0
"""How long the end of a connection may take."""
_DENIED: Final = ("HTTPUnauthorizedError", "HTTPForbiddenError", "PermissionError")


class ConnectionFailed(Exception):
    """Why a connection ended: one line."""

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied
        """Whether the receiver refuses user name or password."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamImage:
    """An image that is to be sent."""

    image: Image
    """uint8 BGR (H, W, 3), contiguous."""
    pts_s: float
    pixel_aspect: Fraction

    @property
    def form(self) -> tuple[Any, ...]:
        """What may not change within a connection."""
        return (*self.image.shape, self.pixel_aspect)


class SendingProcess:
    """The process that encodes and sends; see ``_stream_process``."""

    def __init__(self) -> None:
        self._send_timeout_s = 0.0
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from rtseg.sinks._stream_process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # Ctrl-C is for the run, which ends it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def open(self, target: StreamTarget, item: StreamImage) -> None:
        """Connect; ``item`` tells the size of the images.

        Raises:
            ConnectionFailed: the receiver cannot be reached.
        """
        self._send_timeout_s = target.send_timeout_s
        try:
            self._stdin.write(target.to_line())
            self._write(item)
        except (OSError, ValueError) as error:
            raise self._failure() from error
        answer = self._stdout.readline()
        if answer != b"ready\n":
            raise self._failure(answer)

    def send(self, item: StreamImage) -> None:
        """Send an image; wait until the process has taken it.

        Raises:
            ConnectionFailed: the connection has ended.
        """
        try:
            self._write(item)
        except (OSError, ValueError) as error:
            raise self._failure() from error

    def _write(self, item: StreamImage) -> None:
        height, width = item.image.shape[:2]
        aspect = item.pixel_aspect
        self._stdin.write(HEADER.pack(height, width, aspect.numerator, aspect.denominator, item.pts_s))
        self._stdin.write(item.image.data)
        self._stdin.flush()

    def _failure(self, said: bytes = b"") -> ConnectionFailed:
        """Why the process has ended, from the line that it has ``said``, or has yet to say."""
        with suppress(OSError, ValueError):
            self._stdin.close()
        with suppress(ValueError):  # it was ended meanwhile
            said = said or self._stdout.readline()
        kind, _, text = said.decode(errors="replace").strip().partition(" ")
        if kind and kind != "ready":
            return ConnectionFailed(text or kind, denied=kind in _DENIED)
        return ConnectionFailed(f"the receiver does not answer, or accepts nothing for {self._send_timeout_s:g} s")

    def finish(self) -> None:
        """Let it send the rest and close the connection."""
        with suppress(OSError, ValueError):
            self._stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)

    def end(self) -> None:
        """End it at once. Any thread may call it, any number of times."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError, ValueError):
                pipe.close()
