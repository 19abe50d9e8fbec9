"""The memory that ``Prefetch`` may use for data that was read ahead."""

from __future__ import annotations

__all__ = ["MemoryBudget"]

_DECAY = 0.9
"""After an unusually large job, the estimate for the next one falls by this factor with every job."""


class MemoryBudget:
    """Counts the bytes that jobs hold, and estimates how many the next job needs. Not thread-safe.

    Args:
        limit: bytes that all jobs together may hold.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = self._holders = 0
        self.estimate = limit
        """Bytes that the next job is expected to need: the whole budget until the first size is known."""
        self.peak_bytes = 0
        """The most bytes that were held at any time."""

    @property
    def unused(self) -> bool:
        """Whether no job holds memory."""
        return not self._holders

    @property
    def exceeded(self) -> bool:
        """Whether the jobs hold more than the limit."""
        return self._used > self._limit

    @property
    def has_room(self) -> bool:
        """Whether another job of the estimated size fits."""
        return self._used + self.estimate <= self._limit

    def change(self, old: int, new: int) -> None:
        """A job that held ``old`` bytes now holds ``new``."""
        self._holders += (new > 0) - (old > 0)
        self._used += new - old
        self.peak_bytes = max(self.peak_bytes, self._used)

    def record(self, size: int) -> None:
        """Update the estimate with the size of a job in bytes."""
        if size == 0:  # generated or unusable: it says nothing about the next ones
            return
        first = self.estimate == self._limit
        self.estimate = size if first else max(size, int(_DECAY * self.estimate))
