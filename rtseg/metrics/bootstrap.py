"""How uncertain a mean IoU is: a confidence interval from resampled images.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval); Kuensch, "The
Jackknife and the Bootstrap for General Stationary Observations", Annals of Statistics 1989 (blocks of a series).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.metrics.confusion import ConfusionMatrix

__all__ = ["BootstrapInterval", "sampling_units"]

_RESAMPLES = 1000
_MIN_UNITS = 10
_MAX_UNITS = 500
"""More images share units, which limits the memory."""
_CHUNK = 50
"""Resamples that are computed at a time."""


def sampling_units(videos: Sequence[str | None]) -> tuple[list[int], str]:
    """Decide what is drawn together, since the frames of a video are not independent.

    Args:
        videos: for each image, the name of its video, or None for a single image.

    Returns:
        The unit of each image, and what the units are called. Units are images, if there are no videos; videos, if
        there are at least 10; else blocks of consecutive frames, 10 in total.
    """
    names = list(dict.fromkeys(videos))
    if None in names:
        count = min(len(videos), _MAX_UNITS)
        return [index % count for index in range(len(videos))], f"{count} images"
    if len(names) >= _MIN_UNITS:
        count = min(len(names), _MAX_UNITS)
        return [names.index(video) % count for video in videos], f"{count} videos"
    count = min(_MIN_UNITS, len(videos))
    noun = "a video" if len(names) == 1 else f"{len(names)} videos"
    return [index * count // len(videos) for index in range(len(videos))], f"{count} blocks of {noun}"


class BootstrapInterval:
    """Counts a confusion matrix for each unit, and resamples them."""

    def __init__(self, classes: int, units: int) -> None:
        self._matrices = [ConfusionMatrix(classes) for _ in range(units)]

    def add(self, predicted: Labels, truth: Labels, unit: int) -> None:
        """Count the pixels of one image, see ``ConfusionMatrix.add``."""
        self._matrices[unit].add(predicted, truth)

    def matrix(self) -> NDArray[np.int64]:
        """Return the pixel counts of all units, int64 (C, C)."""
        total: NDArray[np.int64] = np.sum([matrix.matrix() for matrix in self._matrices], axis=0)
        return total

    def interval(self, classes: Collection[int] | None = None, share: float = 0.95) -> tuple[float, float] | None:
        """Return the interval of the mean IoU over ``classes`` (default: all), in [0, 1]; None for a single unit.

        The seed is 0: the interval is always the same.
        """
        if len(self._matrices) < 2:
            return None
        counts = np.stack([_counts(matrix.matrix()) for matrix in self._matrices])
        counts = counts[:, :, slice(None) if classes is None else sorted(classes)]
        generator, units = np.random.default_rng(0), len(counts)
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=_RESAMPLES)
        scores = [_mean_ious(drawn[first : first + _CHUNK], counts) for first in range(0, _RESAMPLES, _CHUNK)]
        low, high = np.nanquantile(np.concatenate(scores), [(1 - share) / 2, (1 + share) / 2])
        return float(low), float(high)


def _counts(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection and union of each class, (2, C)."""
    correct = np.diag(matrix)
    return np.stack((correct, matrix.sum(0) + matrix.sum(1) - correct)).astype(np.float64)


def _mean_ious(drawn: NDArray[np.int64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean IoU of each resample (R, units), NaN where nothing was drawn that counts."""
    intersection, union = np.moveaxis(np.tensordot(drawn.astype(np.float64), counts, 1), 1, 0)
    known = union > 0
    ious = np.divide(intersection, union, out=np.zeros_like(union), where=known)
    total = known.sum(1)
    means: NDArray[np.float64] = np.divide(ious.sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
    return means
