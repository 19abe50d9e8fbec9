"""Images of a camera that moves over a texture."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Image
from rtseg.system.opencv import cv2

SIZE = (192, 320)


def texture(size: tuple[int, int], seed: int = 0) -> Image:
    """A smooth random image, which a flow can be computed from."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def moving(frames: int, step: tuple[int, int]) -> list[Image]:
    """A camera that moves over a texture by ``step`` (y, x) pixels per frame."""
    (height, width), (down, right) = SIZE, step
    wide = texture((height + frames * abs(down), width + frames * abs(right)))
    top, left = (frames * max(0, -step) for step in (down, right))
    return [
        wide[top + n * down : top + n * down + height, left + n * right : left + n * right + width].copy()
        for n in range(frames)
    ]
