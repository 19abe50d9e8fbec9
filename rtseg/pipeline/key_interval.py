"""How often the network may run so that a frame rate is reached."""

from __future__ import annotations

import math

__all__ = ["KeyInterval"]

_LARGEST = 12
"""Labels that are carried further are not worth showing: on CamVid (15 Hz) they have lost 3 points of mIoU."""
_WINDOW = 12
"""Frames over which the rate is measured: a multiple of the intervals that occur most."""
_SETTLING = 6
"""Frames after a change that are not measured: those that were on their way."""
_MARGIN = 1.05
"""The rate is aimed at this factor above the target."""


class KeyInterval:
    """Chooses K, so that the network runs on every K-th frame and ``target_fps`` frames leave a stage per second.

    A frame takes ``network / K + others`` seconds. Both are found by running with K = 1 and K = 2; from then on the
    measured rate corrects the second one.

    Args:
        target_fps: frames per second.
    """

    def __init__(self, target_fps: float) -> None:
        self._target_s = 1 / (target_fps * _MARGIN)
        self._network_s: float | None = None
        self._first_s: float | None = None
        self.frames = 1
        """K as it is now."""
        self._restart()

    def _restart(self) -> None:
        self._count = -_SETTLING
        self._started_s = 0.0

    def count(self, now_s: float) -> None:
        """Count a frame that leaves the stage at ``now_s``, in seconds of any clock."""
        self._count += 1
        if self._count == 0:
            self._started_s = now_s
        if self._count >= _WINDOW:
            self._choose((now_s - self._started_s) / self._count)
            self._restart()

    def _choose(self, frame_s: float) -> None:
        if self._first_s is None:
            self._first_s = frame_s
            self.frames = 2 if frame_s > self._target_s else 1
            if self.frames == 1:
                self._first_s = None  # quick enough: measure again
            return
        if self._network_s is None:
            self._network_s = max(2 * (self._first_s - frame_s), 0.0)
        others_s = frame_s - self._network_s / self.frames
        left_s = self._target_s - others_s
        self.frames = _LARGEST if left_s <= 0 else min(_LARGEST, max(1, math.ceil(self._network_s / left_s)))
