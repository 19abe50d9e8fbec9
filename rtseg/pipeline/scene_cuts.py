"""Where a video does not go on from the frame before: there, a sequence model must forget."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.system.opencv import cv2

__all__ = ["CutDetector"]

_SIDE = 64
"""Longer side of the image that is looked at, in pixels: a cut changes the whole, and the rest is noise."""
_SAMPLES = 3
"""Pixels along each axis that are averaged to one of those: a mean over all of them would take ten times as long."""


class CutDetector:
    """Tells, frame by frame, where something new begins. Use one for one source.

    That is at the first frame; where the content changes at once, by a cut or where a looped source begins again; and
    after a gap in time. Dropped frames alone are no cut, as long as they make no such gap. Images of a folder
    (``still``) begin anew each: nobody knows whether they follow each other, and what is said of one file must not
    hang on the files that happen to lie beside it. Whoever has a video in images gets its memory from a video file.

    The change is the mean absolute difference of hue (0..179), saturation and value (0..255) over all pixels, as in
    PySceneDetect's ``ContentDetector`` with its default weights (scenedetect.com, "Detection Algorithms"); 27 is its
    default threshold, too. Two things are done otherwise: hue is an angle, so that 0 and 179 are neighbours (else reds
    that flicker would be cuts), and images are shrunk to 64 pixels, which leaves less than 0.1 ms of work.

    Args:
        threshold: change from which on it is a cut, 0..255.
        gap_s: longest time between two frames that belong together, in seconds.
    """

    def __init__(self, threshold: float = 27.0, gap_s: float = 1.0) -> None:
        self._threshold = threshold
        self._gap_s = gap_s
        self._before: tuple[NDArray[np.uint8], float] | None = None

    def __call__(self, image: Image, pts_s: float, *, still: bool = False) -> bool:
        """Whether ``image`` does not go on from the one before.

        Args:
            image: BGR, uint8 (H, W, 3), of the same size every time; of any number of channels where ``still``.
            pts_s: its time in the source, in seconds.
            still: whether it is an image of its own, not the frame of a video.
        """
        if still:
            self._before = None
            return True
        before, small = self._before, _small_hsv(image)
        self._before = small, pts_s
        if before is None or pts_s - before[1] > self._gap_s:
            return True
        return _change(before[0], small) >= self._threshold


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    difference = cv2.absdiff(before, after)
    hue = difference[..., 0]
    np.minimum(hue, 180 - hue, out=hue)
    return float(difference.mean())


def _small_hsv(image: Image) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * _SIDE / max(image.shape[:2]))) for side in image.shape[:2])
    sampled = cv2.resize(image, (width * _SAMPLES, height * _SAMPLES), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2HSV), dtype=np.uint8)
