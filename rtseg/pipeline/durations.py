"""Statistics of the durations of a stage, in constant memory for any length of run."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Durations"]

_SHORTEST_S = 1e-7
_STEP = 1.01
"""Ratio of two consecutive bucket bounds: percentiles are accurate to 1 %."""
_BUCKETS = math.ceil(math.log(1e5 / _SHORTEST_S, _STEP))


class Durations:
    """Exact mean and maximum, and percentiles accurate to 1 % from a histogram with logarithmic buckets."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self._buckets = np.zeros(_BUCKETS, dtype=np.int64)

    def add(self, seconds: float) -> None:
        """Add one duration, in seconds."""
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)
        bucket = int(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _STEP))
        self._buckets[min(bucket, _BUCKETS - 1)] += 1

    def percentile_s(self, percent: float) -> float:
        """The duration, in seconds, that ``percent`` (0..100) of all durations do not exceed; 0 if there is none."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(percent / 100 * self.count))
        bucket = int(np.searchsorted(np.cumsum(self._buckets), rank))
        return float(min(self.max_s, _SHORTEST_S * _STEP ** (bucket + 0.5)))

    def count_up_to(self, seconds: float) -> int:
        """How many durations were not longer than ``seconds``, to 1 % of that."""
        bucket = int(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _STEP))
        return int(self._buckets[: bucket + 1].sum())

    def summary(self) -> dict[str, float]:
        """``mean_ms``, ``p50_ms``, ``p95_ms``, ``p99_ms`` and ``max_ms``, in milliseconds."""
        mean_s = self.total_s / self.count if self.count else 0.0
        figures = {"mean_ms": mean_s, "max_ms": self.max_s}
        figures |= {f"p{percent}_ms": self.percentile_s(percent) for percent in (50, 95, 99)}
        return {key: round(1e3 * value, 4) for key, value in figures.items()}
