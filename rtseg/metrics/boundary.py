"""How well the outlines of labels agree with those of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot

import numpy as np

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["TOLERANCE", "Boundary", "BoundaryScores", "contours"]

TOLERANCE = 0.0075
"""How far two contours may lie apart, as a share of the image's diagonal: 4.5 pixels in 480x360."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """Boundary F-scores of one evaluation, all in [0, 1]."""

    mean: float | None
    """Mean of ``per_class`` over the classes that have one; None where no class has."""
    per_class: tuple[float | None, ...]
    """Mean over the images; None for a class that has no contour in any."""


class Boundary:
    """Boundary F-score: contours of truth and prediction that lie within a tolerance of each other.

    For each image and class, with contours T (truth) and P (prediction) and the Euclidean distance d:

        precision = share of P with d(p, T) < tolerance,   recall = share of T with d(t, P) < tolerance
        F = 2 precision recall / (precision + recall),     0 where one of the two is empty

    F is averaged over the images in which the class has a contour in truth or prediction, then over classes. An
    image in which it has neither (it does not occur, or fills all that is labelled) says nothing about outlines.

    Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
    section 3: the score, computed for each image, and the tolerance of 0.75 % of the diagonal. DAVIS (Perazzi et
    al., CVPR 2016) has the same measure with 0.8 %, rounded up to whole pixels. What a contour is, see ``contours``.
    """

    def __init__(self, classes: int) -> None:
        self._sums = np.zeros(classes, np.float64)
        self._images = np.zeros(classes, np.int64)

    def add(self, labels: Labels, truth: Labels) -> None:
        """Judge one image.

        Args:
            labels: predicted class ids, uint8 (H, W), all below the number of classes.
            truth: class ids, uint8 (H, W). Where it is void (255), the prediction is taken for void, too.

        Raises:
            ValueError: the shapes differ.
        """
        if labels.shape != truth.shape:
            raise ValueError(f"labels {labels.shape} and truth {truth.shape} must have one shape")
        tolerance = TOLERANCE * hypot(*truth.shape)
        predicted = contours(np.where(truth == VOID, np.uint8(VOID), labels))
        true = contours(truth)
        for index in range(len(self._sums)):
            found, wanted = _contour_of(predicted, index), _contour_of(true, index)
            if found.any() or wanted.any():
                self._sums[index] += _f_score(found, wanted, tolerance)
                self._images[index] += 1

    def scores(self) -> BoundaryScores:
        """Of the images so far."""
        means = [float(s / n) if n else None for s, n in zip(self._sums, self._images, strict=True)]
        known = [mean for mean in means if mean is not None]
        return BoundaryScores(float(np.mean(known)) if known else None, tuple(means))


def contours(labels: Labels) -> Labels:
    """The class of every pixel that lies on the contour of its class, 255 elsewhere; uint8 (H, W).

    A pixel is on the contour of its class if one of its four neighbours has another class. Neither void (255) nor the
    edge of the image is another class: where what is labelled ends there is no contour.
    """
    # With void at the far end, the largest and the smallest label around a pixel are of classes, or its own.
    highest = cv2.dilate(np.where(labels == VOID, np.uint8(0), labels), _CROSS)
    lowest = cv2.erode(labels, _CROSS)
    inside = (highest == labels) & (lowest == labels)
    return np.where(inside, np.uint8(VOID), labels)


def _contour_of(lines: Labels, index: int) -> Labels:
    """255 on the contour of one class, else 0; uint8 (H, W)."""
    return np.where(lines == index, np.uint8(255), np.uint8(0))


def _f_score(found: Labels, wanted: Labels, tolerance: float) -> float:
    """F of the contours of one class in one image; at least one of the two has a pixel."""
    precision = _share_near(found, wanted, tolerance)
    recall = _share_near(wanted, found, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(points: Labels, others: Labels, tolerance: float) -> float:
    """Share of ``points`` less than ``tolerance`` pixels from the nearest of ``others``; 0 where either is empty."""
    if not points.any() or not others.any():
        return 0.0
    # Distances only where they can be small enough: most contours lie in a part of the image.
    left, top, width, height = cv2.boundingRect(others)
    reach = ceil(tolerance)
    part = np.s_[max(0, top - reach) : top + height + reach, max(0, left - reach) : left + width + reach]
    distances = cv2.distanceTransform(cv2.bitwise_not(others[part]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = np.count_nonzero(distances[points[part] != 0] < tolerance)
    return near / np.count_nonzero(points)
