"""The times of frames, mended where a container has them wrong."""

from __future__ import annotations

__all__ = ["FrameClock"]

_SET_BACK_S = 1.0


class FrameClock:
    """Turns the time stamps of a stream into seconds that never decrease.

    A missing stamp is one frame after the last. A stamp that lies a little before the last (a container that
    is wrong by a frame) is lifted to it. One that lies far before it says that the clock was set back, as at
    the restart of a camera or the wrap of MPEG-TS: the times then go on from the last frame.
    """

    def __init__(self, origin_s: float | None, step_s: float) -> None:
        """Start before the first frame.

        Args:
            origin_s: the stamp of the stream's start, in seconds; None takes that of the first frame.
            step_s: nominal time between two frames, in seconds.
        """
        self._origin_s = origin_s
        self._step_s = step_s
        self._last_s: float | None = None

    def __call__(self, stamp_s: float | None) -> float:
        """Seconds from the start of the stream for the next frame, whose stamp is ``stamp_s``."""
        following_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stamp_s is None:
            time_s = following_s
        else:
            if self._origin_s is None:
                self._origin_s = stamp_s
            time_s = stamp_s - self._origin_s
            least_s = self._last_s or 0.0
            if self._last_s is not None and time_s < least_s - _SET_BACK_S:
                self._origin_s = stamp_s - following_s
                time_s = following_s
            time_s = max(time_s, least_s)
        self._last_s = time_s
        return time_s
