"""Detection of scene cuts, where a sequence model must be reset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.system.opencv import cv2

__all__ = ["CutDetector"]

_SIDE = 64
"""Longer side of the compared images, in pixels: a cut changes the whole image, and details are noise."""
_SAMPLES = 3
"""Pixels along each axis averaged into one compared pixel. Averaging all of them would take ten times as long."""


class CutDetector:
    """Decides for each frame whether a new scene begins with it. Use one detector for each source.

    A scene begins at the first frame; where the content changes abruptly, by a cut or where a looped source starts
    again; and after a gap in time. Dropped frames are no cut unless they make such a gap. Every image of a folder
    (``still``) begins a new scene: it is unknown whether such images follow each other, and the result for one file
    must not depend on the files beside it. To give a sequence model its memory, make a video file of the images.

    The change is the mean absolute difference of hue (0..179), saturation and value (0..255) over all pixels, as in
    PySceneDetect's ``ContentDetector`` with its default weights and its default threshold of 27 (scenedetect.com,
    "Detection Algorithms"). There are two differences: hue is treated as an angle, so that 0 and 179 are neighbours
    (otherwise flickering reds would be cuts), and images are shrunk to 64 pixels, which takes less than 0.1 ms.

    Args:
        threshold: smallest change that is a cut, 0..255.
        gap_s: longest time between two frames of one scene, in seconds.
    """

    def __init__(self, threshold: float = 27.0, gap_s: float = 1.0) -> None:
        self._threshold = threshold
        self._gap_s = gap_s
        self._previous: tuple[NDArray[np.uint8], float] | None = None

    def __call__(self, image: Image, pts_s: float, *, still: bool = False) -> bool:
        """Whether a new scene begins with ``image``.

        Args:
            image: BGR, uint8 (H, W, 3), always of the same size; with any number of channels if ``still``.
            pts_s: its time in the source, in seconds.
            still: whether it is an independent image, not the frame of a video.
        """
        if still:
            self._previous = None
            return True
        previous, small = self._previous, _small_hsv(image)
        self._previous = small, pts_s
        if previous is None or pts_s - previous[1] > self._gap_s:
            return True
        return _change(previous[0], small) >= self._threshold


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
