"""How good labels are: the confusion matrix and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID

__all__ = ["Confusion", "Scores", "scores"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one evaluation, all in [0, 1]."""

    miou: float
    """Mean of ``iou`` over the classes that occur in truth or prediction."""
    iou: tuple[float | None, ...]
    """Of each class; None for one that occurs neither in truth nor in prediction."""
    pixel_accuracy: float
    """Share of labelled pixels with the right class."""

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """For JSON: the same figures, with class names."""
        per_class = dict(zip(classes, self.iou, strict=True))
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy, "iou": per_class}


class Confusion:
    """Counts (truth, prediction) pairs of pixels; void in the truth is left out."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._matrix = np.zeros((classes, classes), np.int64)

    def add(self, predicted: Labels, truth: Labels) -> None:
        """Count one image; both uint8 (H, W).

        Raises:
            ValueError: the shapes differ, or a class id is not below the number of classes (255 in ``truth`` is void).
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"labels {predicted.shape} and truth {truth.shape} must have one shape")
        # As 16-bit pairs one pass counts them all, the wrong ids too.
        pairs = np.bincount((truth.astype(np.uint16) << 8 | predicted).ravel(), minlength=1 << 16).reshape(256, 256)
        true = pairs[:VOID]
        for what, counts in (("labels", pairs.sum(0)), ("truth", true.sum(1))):
            if counts[self._classes :].any():
                raise ValueError(f"{what} hold id {np.flatnonzero(counts)[-1]}, there are {self._classes} classes")
        self._matrix += true[: self._classes, : self._classes]

    def matrix(self) -> NDArray[np.int64]:
        """Pixel counts, int64 (C, C): rows are truth, columns are prediction."""
        return self._matrix.copy()


def scores(confusion: NDArray[np.int64]) -> Scores:
    """Mean and per-class IoU, TP / (TP + FP + FN), and pixel accuracy, sum TP / all.

    Args:
        confusion: pixel counts, int64 (C, C): rows are truth, columns are prediction.

    Raises:
        ValueError: ``confusion`` is not square or counts no pixel.

    Source: Long, Shelhamer, Darrell, CVPR 2015, "mean IU" in the results. A class that occurs
    neither in truth nor in prediction has no IoU (0 / 0) and is left out of the mean.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be square, got {confusion.shape}")
    if confusion.sum() == 0:
        raise ValueError("confusion counts no pixel")
    right = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - right
    iou = tuple(float(r / u) if u else None for r, u in zip(right, union, strict=True))
    known = [value for value in iou if value is not None]
    return Scores(float(np.mean(known)), iou, float(right.sum() / confusion.sum()))
