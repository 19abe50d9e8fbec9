"""The share of an image that each class covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["class_shares"]


def class_shares(labels: Labels, classes: int) -> NDArray[np.float64]:
    """Compute the share of each class in the labelled pixels of an image.

    Args:
        labels: class IDs, uint8 (H, W). Void (255) and IDs of ``classes`` or more are not counted.
        classes: number of classes, 1..255.

    Returns:
        float64 (classes,), each in [0, 1], with a sum of 1; all 0 if every pixel is void.

    Raises:
        ValueError: ``labels`` is not uint8 (H, W), or ``classes`` is not in 1..255.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 (H, W), got {labels.dtype} {labels.shape}")
    if not 1 <= classes <= VOID:
        raise ValueError(f"classes must be in 1..{VOID}, got {classes}")
    # 0.24 ms for 960x540, where np.bincount takes 0.63 ms. Its float32 counts are exact up to 2**24 pixels
    # of one class (a 4K image has 2**23) and within 1e-7 beyond.
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).reshape(256)[:classes].astype(np.float64)
    total = counts.sum()
    shares: NDArray[np.float64] = counts / total if total else counts
    return shares
