"""The confusion matrix, and the scores computed from it: IoU, mean IoU and pixel accuracy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID

__all__ = ["ConfusionMatrix", "Scores", "absent_classes", "compute_scores"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one evaluation, all in [0, 1]."""

    miou: float
    """Mean of ``iou`` over the classes that occur in the ground truth or the prediction."""
    iou: tuple[float | None, ...]
    """IoU of each class; None for a class that occurs neither in the ground truth nor in the prediction."""
    pixel_accuracy: float
    """Share of labelled pixels whose predicted class is correct."""

    def only(self, class_ids: Collection[int]) -> Scores:
        """Return the scores without the IoU of other classes, which the mean then leaves out."""
        iou = tuple(value if index in class_ids else None for index, value in enumerate(self.iou))
        known = [value for value in iou if value is not None]
        return replace(self, miou=float(np.mean(known)) if known else 0.0, iou=iou)

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Return the scores for JSON, with class names as keys of ``iou``."""
        per_class = dict(zip(classes, self.iou, strict=True))
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy, "iou": per_class}


def absent_classes(
    pixels: NDArray[np.int64], classes: Sequence[str], data: str, class_ids: Collection[int] | None = None
) -> str:
    """Return a sentence that names the classes without a pixel; empty if there are none.

    Args:
        pixels: labelled pixels of each class, (C,).
        classes: their names.
        data: what the sentence calls the data.
        class_ids: the classes that count; all by default.
    """
    absent = [
        f"{name} ({class_id})"
        for class_id, name in enumerate(classes)
        if not pixels[class_id] and (class_ids is None or class_id in class_ids)
    ]
    return f"no pixel of {data} has the class {', '.join(absent)}" if absent else ""


class ConfusionMatrix:
    """Confusion matrix accumulated over images. Pixels that are void in the ground truth are ignored."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._matrix = np.zeros((classes, classes), np.int64)

    def add(self, predicted: Labels, truth: Labels) -> None:
        """Count the pixels of one image; both arrays are uint8 (H, W).

        Raises:
            ValueError: the shapes differ, or a class ID is not below the number of classes (255 in ``truth`` is void).
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"labels {predicted.shape} and truth {truth.shape} must have the same shape")
        # Packing each pair into 16 bits counts all pairs in one pass, invalid IDs included.
        pairs = np.bincount((truth.astype(np.uint16) << 8 | predicted).ravel(), minlength=1 << 16).reshape(256, 256)
        true = pairs[:VOID]
        for name, counts in (("labels", pairs.sum(0)), ("truth", true.sum(1))):
            if counts[self._classes :].any():
                raise ValueError(f"{name} hold ID {np.flatnonzero(counts)[-1]}, but there are {self._classes} classes")
        self._matrix += true[: self._classes, : self._classes]

    def matrix(self) -> NDArray[np.int64]:
        """Return the pixel counts, int64 (C, C): rows are ground truth, columns are predictions."""
        return self._matrix.copy()


def compute_scores(confusion: NDArray[np.int64]) -> Scores:
    """Compute mean and per-class IoU, TP / (TP + FP + FN), and pixel accuracy, sum of TP / all pixels.

    Args:
        confusion: pixel counts, int64 (C, C): rows are ground truth, columns are predictions.

    Raises:
        ValueError: ``confusion`` is not square or counts no pixel.

    Source: Long, Shelhamer, Darrell, CVPR 2015, "mean IU" in the results. A class that occurs
    neither in the ground truth nor in the prediction has no IoU (0 / 0) and is left out of the mean.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be square, got {confusion.shape}")
    if confusion.sum() == 0:
        raise ValueError("confusion counts no pixel")
    correct = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - correct
    iou = tuple(float(c / u) if u else None for c, u in zip(correct, union, strict=True))
    known = [value for value in iou if value is not None]
    return Scores(float(np.mean(known)), iou, float(correct.sum() / confusion.sum()))
