"""A histogram of a tensor's values over many images, and the best range to quantize them to eight bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram"]

_BINS = 2048
_LEVELS = 128
"""Values of a signed byte on each side of zero."""


class Histogram:
    """Counts of absolute values in bins of equal width. The width doubles when a larger value is added.

    Args:
        detailed: whether to count values. Otherwise only the minimum and the maximum are kept.
    """

    def __init__(self, *, detailed: bool) -> None:
        self.low = 0.0
        """Minimum, at most 0."""
        self.high = 0.0
        """Maximum, at least 0."""
        self._detailed = detailed
        self._limit = 0.0
        """Upper end of the last bin."""
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of an array of any shape."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if not self._detailed or largest <= 0:
            return
        self._limit = self._limit or largest
        while self._limit < largest:
            self._counts = np.concatenate((self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)))
            self._limit *= 2
        bins = (np.abs(values) * np.float32(_BINS / self._limit)).astype(np.int32).ravel()
        self._counts += np.bincount(np.minimum(bins, _BINS - 1, out=bins), minlength=_BINS)

    def minmax(self) -> tuple[float, float]:
        """Return the minimum and the maximum, including 0."""
        return self.low, self.high

    def percentile(self, share: float) -> tuple[float, float]:
        """Return the narrowest range around 0 that contains ``share``, in [0, 1], of the values."""
        return self._clipped(int(np.searchsorted(np.cumsum(self._counts), share * self._counts.sum())) + 1)

    def entropy(self) -> tuple[float, float]:
        """Return the range around 0 that loses least information in eight bits.

        It minimizes the Kullback-Leibler divergence between the clipped distribution and the same distribution in 128
        levels. Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, pseudocode of the calibration. The count of
        the first bin is replaced by that of the second, as in NVIDIA's pytorch-quantization (``histogram.py``);
        otherwise the zeros of a ReLU would dominate.
        """
        counts = np.concatenate((self._counts[1:2], self._counts[1:]))
        divergences = {bins: _divergence(counts, bins) for bins in range(_LEVELS, _BINS + 1, _LEVELS // 16)}
        return self._clipped(min(divergences, key=divergences.__getitem__))

    def _clipped(self, bins: int) -> tuple[float, float]:
        edge = self._limit * bins / _BINS
        return max(self.low, -edge), min(self.high, edge)


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    """Return the KL divergence of a distribution that is clipped to ``bins`` from the same in 128 levels."""
    inside = counts[:bins].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[bins:].sum()
    levels = np.arange(bins) * _LEVELS // bins
    filled = inside > 0
    # The count of a level is spread evenly over its bins that are not empty.
    mean = np.bincount(levels, inside, _LEVELS) / np.maximum(np.bincount(levels, filled, _LEVELS), 1)
    coarse = np.where(filled, mean[levels], 0.0)
    shared = filled & (coarse > 0)
    if not shared.any() or (clipped[~shared] > 0).any():
        return float("inf")
    p, q = clipped[shared] / clipped.sum(), coarse[shared] / coarse.sum()
    return float((p * np.log(p / q)).sum())
