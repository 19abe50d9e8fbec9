"""A picture of a video and its clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Labels", "Picture"]

Picture = NDArray[np.uint8]
"""BGR picture, uint8 (H, W, 3)."""

Labels = NDArray[np.uint8]
"""Class ids, uint8 (H, W); 255 is void and never predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source and the times that belong to it.

    Raises:
        ValueError: ``image`` is not uint8 of shape (H, W, 3), or ``index`` is negative.
    """

    image: Picture
    """BGR, uint8 (H, W, 3), values 0..255. Shared between threads: do not write to it."""
    index: int
    """Place in what is read of the source, from 0. A gap means that frames were dropped or skipped."""
    pts_s: float
    """When it is to be shown, in seconds from the start of the source. Never decreases."""
    captured_s: float
    """``time.monotonic()``, in seconds, when the source handed it over."""
    name: str | None = None
    """Of a picture from a folder: its file name. None for the frame of a video."""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), got {self.image.dtype} {self.image.shape}")
        if self.index < 0:
            raise ValueError(f"index must not be negative, got {self.index}")
