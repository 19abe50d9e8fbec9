"""Changed copies of an image: another exposure, another focus, another number of channels."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Image
from rtseg.system.opencv import cv2

__all__ = ["VARIANTS", "alter_image", "with_extra_channel"]

VARIANTS = ("original", "blurred", "darkened", "brightened")
_BLUR_SIGMA = 2.0
"""Of the Gaussian filter, in pixels."""
_DARK_FACTOR, _BRIGHT_OFFSET = 0.5, 60


def alter_image(image: Image, variant: str) -> Image:
    """Return a copy of an image, uint8 (H, W, C), as another exposure or focus would give it.

    Raises:
        ValueError: ``variant`` is not one of ``VARIANTS``.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if variant == "original":
        return image.copy()
    if variant == "blurred":
        changed = cv2.GaussianBlur(image, (0, 0), _BLUR_SIGMA)
    elif variant == "darkened":
        changed = cv2.convertScaleAbs(image, alpha=_DARK_FACTOR)
    else:
        changed = cv2.convertScaleAbs(image, beta=_BRIGHT_OFFSET)
    return np.asarray(changed, np.uint8).reshape(image.shape)  # OpenCV drops the axis of a single channel


def with_extra_channel(image: Image, channels: int) -> Image:
    """Convert a BGR image to ``channels``; the extra channel is the green channel rotated by 180 degrees."""
    if channels == 3:
        return image
    base = image if channels == 4 else image[..., 2:]
    return np.concatenate((base, image[::-1, ::-1, 1:2]), axis=2)
