"""Detects images of a live source that are not what its camera sees, and changes of size and rate."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Frame, Image

__all__ = ["Health"]

_STEP = 8
"""Only every 8th pixel of every 8th row is compared: noise of the sensor changes some of them in every frame."""
_UNIFORM = 3.0
"""Standard deviation of the pixels, below which an image shows nothing; a dark room with sensor noise has more."""
_RATE_FRAMES = 60
_RATE_CHANGE = 1.3
"""Ratio of two frame rates that differ."""


class Health:
    """Looks at every frame of a live source.

    An image is frozen if it is the same as the one before: of a still scene it is not, because sensors have noise. It
    is uniform if it has one colour. Both are faults only if they last for longer than ``timeout_s``: video codecs may
    repeat an image until the next keyframe, and a scene may be dark for a moment.

    Args:
        timeout_s: in seconds; 0 turns these checks off.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.withheld = 0
        """Frames with a fault so far."""
        self.description = ""
        """Size and rate of the stream."""
        self._sample: NDArray[np.uint8] | None = None
        self._since_s: dict[str, float] = {}
        self._size: tuple[int, int] | None = None
        self._rate: float | None = None
        self._steps_s: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._last: tuple[float, int] | None = None

    def describe(self, frame: Frame, fps: float | None) -> str:
        """Size and rate of a stream that begins with ``frame``; ``fps`` is its nominal rate."""
        self._steps_s.clear()
        self._since_s.clear()
        self._sample = self._last = None
        self._size, self._rate = frame.image.shape[:2], fps
        return self._describe()

    def _describe(self) -> str:
        height, width = self._size or (0, 0)
        rate = f", {self._rate:.3g} fps" if self._rate else ""
        self.description = f"{width}x{height}{rate}"
        return self.description

    def check(self, frame: Frame, fps: float | None) -> str:
        """Return what is wrong with ``frame``, or an empty text."""
        size = frame.image.shape[:2]
        if size != self._size:
            self.describe(frame, self._rate)
        self._measure_rate(frame)
        fault = self._fault(frame.image, frame.captured_s)
        self.withheld += bool(fault)
        return fault

    def _measure_rate(self, frame: Frame) -> None:
        before, self._last = self._last, (frame.pts_s, frame.index)
        if before is not None and frame.index > before[1]:
            self._steps_s.append((frame.pts_s - before[0]) / (frame.index - before[1]))
        if len(self._steps_s) < _RATE_FRAMES:
            return
        step_s = median(self._steps_s)
        self._steps_s.clear()
        if step_s > 0 and (not self._rate or max(self._rate * step_s, 1 / (self._rate * step_s)) > _RATE_CHANGE):
            self._rate = 1 / step_s
            self._describe()

    def _fault(self, image: Image, now_s: float) -> str:
        if not self._timeout_s:
            return ""
        sample = np.ascontiguousarray(image[::_STEP, ::_STEP])
        before, self._sample = self._sample, sample
        same = before is not None and before.shape == sample.shape and before.tobytes() == sample.tobytes()
        uniform = float(sample.std(axis=(0, 1)).max()) < _UNIFORM
        level = "black" if float(sample.mean()) < 32 else "of one colour"
        for kind, is_so, text in (
            ("uniform", uniform, f"the image is {level}"),
            ("frozen", same, "the image is frozen: not even its noise changes"),
        ):
            if not is_so:
                self._since_s.pop(kind, None)
            elif now_s - self._since_s.setdefault(kind, now_s) > self._timeout_s:
                return text
        return ""
