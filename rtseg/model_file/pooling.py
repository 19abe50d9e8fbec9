"""The matrices of pyramid pooling, which depend only on the input size.

This module does not import torch, so that the input size of a model file can be changed without it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["pyramid_matrix"]


@lru_cache(maxsize=256)
def pyramid_matrix(axis: str, length: int, bins: int) -> NDArray[np.float32]:
    """Return one matrix that averages an axis into bins and upsamples it again, float32 (length, length).

    The bins are those of adaptive average pooling (neighbouring bins overlap if ``bins`` does not divide ``length``).
    The upsampling is bilinear with ``align_corners=False``.

    Args:
        axis: ``rows`` to multiply from the left, ``columns`` from the right.
        length: length of the axis, in pixels of the feature map.
        bins: number of bins of the pyramid level.
    """
    pool = np.zeros((bins, length))
    for index in range(bins):
        start, end = index * length // bins, -(-(index + 1) * length // bins)
        pool[index, start:end] = 1 / (end - start)
    centre = np.clip((np.arange(length) + 0.5) * bins / length - 0.5, 0, bins - 1)
    resize = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(bins)))
    matrix = np.asarray(resize @ pool, dtype=np.float32)
    return np.ascontiguousarray(matrix if axis == "rows" else matrix.T)
