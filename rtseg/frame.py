"""A frame of a source, and the array types of images and labels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "Frame", "Image", "Labels"]

CHANNELS = (2, 3, 4)
"""How many channels a model input may have: grey and an extra channel, BGR, or BGR and an extra channel."""

Image = NDArray[np.uint8]
"""Image, uint8 (H, W, C) with C one of ``CHANNELS``. BGR with C = 3 unless stated otherwise.

An extra channel (alpha, infrared, depth ..) is the last one. Grey images are BGR with three equal channels.
"""

Labels = NDArray[np.uint8]
"""Class IDs, uint8 (H, W); 255 is void and never predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source, with its times.

    Raises:
        ValueError: ``image`` is not uint8 of shape (H, W, C) with C 1 to 4, or ``index`` is negative.
    """

    image: Image
    """See ``Image``. Videos and cameras deliver BGR; a grey image file is (H, W, 1) until it is drawn or prepared.

    Values 0..255. Shared between threads: do not write to it.
    """
    index: int
    """Position among the frames that are read, from 0. A gap means that frames were dropped or skipped."""
    pts_s: float
    """Presentation time, in seconds from the start of the source. Never decreases."""
    captured_s: float
    """``time.monotonic()``, in seconds, of its capture: by the clock of a live stream, else when it was read."""
    name: str | None = None
    """File name of an image; None for the frame of a video."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height when it is shown. Not 1 in anamorphic video."""
    duration_s: float | None = None
    """How long it is shown, in seconds; None if unknown. Only the last frame of a recording needs it."""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or not 1 <= self.image.shape[2] <= 4:
            raise ValueError(f"image must be uint8 (H, W, 1 to 4), got {self.image.dtype} {self.image.shape}")
        if self.index < 0:
            raise ValueError(f"index must not be negative, got {self.index}")
