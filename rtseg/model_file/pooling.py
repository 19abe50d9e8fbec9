"""The matrices of pyramid pooling and of upsampling, which depend only on the input size.

This module does not import torch, so that the input size of a model file can be changed without it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["pyramid_matrix", "resize_matrix"]


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
    return _oriented(_bilinear(length, bins) @ pool, axis)


@lru_cache(maxsize=256)
def resize_matrix(axis: str, length: int, factor: int) -> NDArray[np.float32]:
    """Return the matrix that upsamples an axis of ``ceil(length / factor)`` bilinearly to ``length``.

    It equals ``torch.nn.functional.interpolate`` to that size with ``align_corners=False``.

    Args:
        axis: ``rows`` to multiply from the left, float32 (length, bins); ``columns`` from the right, (bins, length).
        length: length of the result, in pixels of the feature map.
        factor: of the lengths, which need not divide ``length``.
    """
    return _oriented(_bilinear(length, -(-length // factor)), axis)


def _bilinear(length: int, bins: int) -> NDArray[np.float64]:
    """Return the weights of ``bins`` values for each of ``length`` interpolated ones, (length, bins)."""
    centre = np.clip((np.arange(length) + 0.5) * bins / length - 0.5, 0, bins - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(bins))))


def _oriented(matrix: NDArray[np.float64], axis: str) -> NDArray[np.float32]:
    return np.ascontiguousarray(matrix if axis == "rows" else matrix.T, dtype=np.float32)
