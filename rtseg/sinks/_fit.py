"""Fits an image into another size."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Image
from rtseg.system.opencv import cv2

__all__ = ["fit"]


def fit(image: Image, size: tuple[int, int], stretch: float = 1.0) -> tuple[Image, bool]:
    """Scale ``image``, uint8 (H, W, 3), into ``size``, (H, W) in pixels. Its shape is kept; the rest is black.

    Args:
        image: the image.
        size: of the result.
        stretch: width of its pixels divided by that of the pixels of the result.

    Returns:
        The image, and whether it fills the size without borders.
    """
    (height, width), (rows, columns) = size, image.shape[:2]
    scale = min(width / (columns * stretch), height / rows)
    inner = min(height, max(1, round(rows * scale))), min(width, max(1, round(columns * stretch * scale)))
    scaled = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if inner == size:
        return scaled, True
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    fitted = np.zeros((height, width, 3), np.uint8)
    fitted[top : top + inner[0], left : left + inner[1]] = scaled
    return fitted, False
