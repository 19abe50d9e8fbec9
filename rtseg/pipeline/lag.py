"""Notices a live run that falls behind its source."""

from __future__ import annotations

import time
from typing import Final

from rtseg.frame import Frame

__all__ = ["LagMeter"]

_WARN_S: Final = 3.0
"""Lag that is worth a warning; the next one comes at twice as much."""
_LARGEST_STEP_S: Final = 1.0
"""Between two frames. More is a pause of the source, which makes its images no older."""
_CLOCK_ERROR: Final = 1e-3
"""Largest difference between the clocks of the source and of this machine, as a share of the time."""


class LagMeter:
    """Measures how much older the shown images of a live source have become since the first one.

    A server or socket keeps the frames that are not read in time, so the age does not show in ``Frame.captured_s``.
    It is the sum, over all frames, of the time between two frames here less their time in the source.
    """

    def __init__(self) -> None:
        self.lag_s = 0.0
        """In seconds; 0 if the run keeps up."""
        self._warn_s = _WARN_S
        self._last: tuple[float, float] | None = None

    def add(self, frame: Frame) -> bool:
        """Add a frame that has just been shown; returns whether the lag is now worth a warning."""
        now_s = time.monotonic()
        if self._last is not None:
            shown_s, pts_s = self._last
            step_s = (1 - _CLOCK_ERROR) * (now_s - shown_s) - (frame.pts_s - pts_s)
            self.lag_s = max(0.0, self.lag_s + min(step_s, _LARGEST_STEP_S))
        self._last = now_s, frame.pts_s
        if self.lag_s < self._warn_s:
            return False
        self._warn_s = 2 * self.lag_s
        return True
