"""The spread of a tensor's values over many images, and the range that serves them best in eight bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram"]

_BINS = 2048
_LEVELS = 128
"""Values of a signed byte on one side of zero."""


class Histogram:
    """Counts of absolute values in bins of equal width, which double in width when a greater value comes.

    Args:
        detailed: whether values are counted; else only the least and the greatest are kept.
    """

    def __init__(self, *, detailed: bool) -> None:
        self.low = 0.0
        """Least value, at most 0."""
        self.high = 0.0
        """Greatest value, at least 0."""
        self._detailed = detailed
        self._limit = 0.0
        """Upper end of the last bin."""
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        greatest = max(-low, high)
        if not self._detailed or greatest <= 0:
            return
        self._limit = self._limit or greatest
        while self._limit < greatest:
            self._counts = np.concatenate((self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)))
            self._limit *= 2
        places = (np.abs(values) * np.float32(_BINS / self._limit)).astype(np.int32).ravel()
        self._counts += np.bincount(np.minimum(places, _BINS - 1, out=places), minlength=_BINS)

    def minmax(self) -> tuple[float, float]:
        """The least and the greatest value, 0 among them."""
        return self.low, self.high

    def percentile(self, share: float) -> tuple[float, float]:
        """The narrowest range about 0 that holds ``share``, in [0, 1], of the values."""
        return self._clipped(int(np.searchsorted(np.cumsum(self._counts), share * self._counts.sum())) + 1)

    def entropy(self) -> tuple[float, float]:
        """The range about 0 whose eight bits tell most about the values.

        Of all places to clip, the one with the least Kullback-Leibler divergence between the clipped distribution and
        the same in 128 levels. Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, pseudocode of the
        calibration; the first bin counts as the second one, as in NVIDIA's pytorch-quantization (``histogram.py``),
        else the zeros that a ReLU leaves outweigh all else.
        """
        counts = np.concatenate((self._counts[1:2], self._counts[1:]))
        divergences = {kept: _divergence(counts, kept) for kept in range(_LEVELS, _BINS + 1, _LEVELS // 16)}
        return self._clipped(min(divergences, key=divergences.__getitem__))

    def _clipped(self, bins: int) -> tuple[float, float]:
        edge = self._limit * bins / _BINS
        return max(self.low, -edge), min(self.high, edge)


def _divergence(counts: NDArray[np.int64], kept: int) -> float:
    """KL divergence of the first ``kept`` bins, what is beyond them in the last one, from the same in 128 levels."""
    inside = counts[:kept].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[kept:].sum()
    levels = np.arange(kept) * _LEVELS // kept
    filled = inside > 0
    # The count of a level is spread evenly over those of its bins that hold anything.
    mean = np.bincount(levels, inside, _LEVELS) / np.maximum(np.bincount(levels, filled, _LEVELS), 1)
    coarse = np.where(filled, mean[levels], 0.0)
    shared = filled & (coarse > 0)
    if not shared.any() or (clipped[~shared] > 0).any():
        return float("inf")
    p, q = clipped[shared] / clipped.sum(), coarse[shared] / coarse.sum()
    return float((p * np.log(p / q)).sum())
