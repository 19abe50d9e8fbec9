"""The speed at which the frames of a file are sent to those who watch."""

from __future__ import annotations

import time
from threading import Event
from typing import Final

__all__ = ["Playback"]

_LATE_S: Final = 0.5
"""A frame later than this restarts the clock: after a delay, playback continues at normal speed."""


class Playback:
    """Waits until frames are due, relative to the first one.

    Args:
        stop: ends every wait once set.
    """

    def __init__(self, stop: Event | None) -> None:
        self._stop = stop or Event()
        self._start_s: float | None = None

    def wait_for(self, pts_s: float) -> None:
        """Return when a frame with the time ``pts_s``, in seconds, is due."""
        now_s = time.monotonic()
        if self._start_s is None or now_s - (self._start_s + pts_s) > _LATE_S:
            self._start_s = now_s - pts_s
        self._stop.wait(max(0.0, self._start_s + pts_s - now_s))

    def restart(self) -> None:
        """Let the next frame be the first one."""
        self._start_s = None
