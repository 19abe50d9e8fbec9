"""An image of a video and its clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "Frame", "Image", "Labels"]

CHANNELS = (2, 3, 4)
"""How many channels an image may have: grey and a second plane, BGR, or BGR and a fourth plane."""

Image = NDArray[np.uint8]
"""Image, uint8 (H, W, C), C of ``CHANNELS``; BGR, so C = 3, wherever nothing else is said.

The plane beyond the colours (alpha, infrared, depth ..) is the last. Grey images are BGR of three equal planes.
"""

Labels = NDArray[np.uint8]
"""Class ids, uint8 (H, W); 255 is void and never predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source and the times that belong to it.

    Raises:
        ValueError: ``image`` is not uint8 of shape (H, W, C) with C 1 to 4, or ``index`` is negative.
    """

    image: Image
    """See ``Image``; of a video or camera BGR, of a grey file (H, W, 1) until it is shown or prepared.

    Values 0..255. Shared between threads: do not write to it.
    """
    index: int
    """Place in what is read of the source, from 0. A gap means that frames were dropped or skipped."""
    pts_s: float
    """When it is to be shown, in seconds from the start of the source. Never decreases."""
    captured_s: float
    """``time.monotonic()``, in seconds, when the source handed it over."""
    name: str | None = None
    """Of an image from a folder: its file name. None for the frame of a video."""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or not 1 <= self.image.shape[2] <= 4:
            raise ValueError(f"image must be uint8 (H, W, 1 to 4), got {self.image.dtype} {self.image.shape}")
        if self.index < 0:
            raise ValueError(f"index must not be negative, got {self.index}")
