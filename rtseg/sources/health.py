"""Detects images of a live source that are not what its camera sees, and changes of size and rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Frame, Image
from rtseg.frame_rate import FrameRate

__all__ = ["Health"]

_STEP = 8
"""Only every 8th pixel of every 8th row is compared: noise of the sensor changes some of them in every frame."""
_UNIFORM = 3.0
"""Standard deviation of the pixels, below which an image shows nothing; a dark room with sensor noise has more."""


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
        self._rate = FrameRate()

    def describe(self, frame: Frame, fps: float | None) -> str:
        """Size and rate of a stream that begins with ``frame``; ``fps`` is its nominal rate."""
        self._since_s.clear()
        self._sample = None
        self._size, self._rate = frame.image.shape[:2], FrameRate(fps)
        return self._describe()

    def _describe(self) -> str:
        height, width = self._size or (0, 0)
        rate = f", {self._rate.fps:.3g} fps" if self._rate.fps else ""
        self.description = f"{width}x{height}{rate}"
        return self.description

    def check(self, frame: Frame, fps: float | None) -> str:
        """Return what is wrong with ``frame``, or an empty text."""
        size = frame.image.shape[:2]
        if size != self._size:
            self.describe(frame, self._rate.fps)
        if self._rate.add(frame):
            self._describe()
        fault = self._fault(frame.image, frame.captured_s)
        self.withheld += bool(fault)
        return fault

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
