"""Notices that the frame rate of a live source has changed."""

from __future__ import annotations

from collections import deque
from statistics import median

from rtseg.frame import Frame

__all__ = ["FrameRate"]

_FRAMES = 60
_CHANGE = 1.3
"""Ratio of two frame rates that differ."""


class FrameRate:
    """Measures the rate of the frames that it is given, over 60 of them; dropped frames do not count.

    Args:
        fps: nominal rate, in frames per second; None if unknown.
    """

    def __init__(self, fps: float | None = None) -> None:
        self.fps = fps
        """The nominal rate, or the measured one once that differs by more than a third."""
        self._steps_s: deque[float] = deque(maxlen=_FRAMES)
        self._last: tuple[float, int] | None = None

    def add(self, frame: Frame) -> bool:
        """Measure; return whether ``fps`` has changed."""
        before, self._last = self._last, (frame.pts_s, frame.index)
        if before is not None and frame.index > before[1]:
            self._steps_s.append((frame.pts_s - before[0]) / (frame.index - before[1]))
        if len(self._steps_s) < _FRAMES:
            return False
        step_s = median(self._steps_s)
        self._steps_s.clear()
        if step_s <= 0 or (self.fps and max(self.fps * step_s, 1 / (self.fps * step_s)) <= _CHANGE):
            return False
        self.fps = 1 / step_s
        return True
