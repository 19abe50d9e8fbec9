"""``fringes``: an interferogram that rtseg draws, its fringes moving, as a source of large grey pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from rtseg._cv2 import cv2
from rtseg.datasets.fringes import expose_surface
from rtseg.frame import Frame
from rtseg.sources import Source, SourceOptions
from rtseg.sources._synthetic import parse_where

__all__ = ["FPS", "FringesSource"]

FPS = 25.0
"""Frames of a second, in which the fringes move on by one: the mean over whole seconds shows none."""

_SIZE = (3072, 3072)
_SIDES = (128, 8192)
_SURFACE = (1, 0, 0, 0)
"""The first picture of ``synthetic:fringes`` of the validation split."""
_NOISE = 1.5
"""Of the camera: standard deviation, in grey values."""
_SHIFT = 64
"""Noise is drawn once, so many pixels larger than the pictures: each shows another part of it."""


class FringesSource(Source):
    """A surface in an interferometer, piezo running: ``fringes``, ``fringes:SECONDS`` or ``fringes:SECONDS@WxH``.

    Pictures are grey, (H, W, 1), of 3072x3072 unless said. Without SECONDS it never ends. It is no live source: it
    waits for whoever reads it.

    Raises:
        OptionError: the text is none of these.
    """

    def __init__(self, where: str, options: SourceOptions) -> None:
        super().__init__("fringes", options)
        self.fps = FPS
        seconds, self._size = parse_where(where, "fringes", _SIZE, _SIDES)
        if seconds is not None:
            self.frame_count = math.ceil(seconds * FPS - 1e-6)

    def _read(self) -> Iterator[Frame]:
        surface = expose_surface(self._size, _SURFACE)
        height, width = self._size
        rng = np.random.default_rng(_SURFACE)
        noise = rng.standard_normal((height + _SHIFT, width + _SHIFT), np.float32) * np.float32(_NOISE)
        # The slack is that of ``Source``: a frame at start_s must not be lost to the last bit of a product.
        index = max(math.ceil((self.options.start_s - 1e-6) * FPS), 0)
        while not self.stopped and (self.frame_count is None or index < self.frame_count):
            down, right = np.random.default_rng((*_SURFACE, index)).integers(0, _SHIFT, 2)
            seen = surface.at(2 * math.pi * index / FPS)
            grey = cv2.add(seen, noise[down : down + height, right : right + width], dtype=cv2.CV_8U)
            yield Frame(np.asarray(grey, dtype=np.uint8)[..., None], index, index / FPS, time.monotonic())
            index += 1
