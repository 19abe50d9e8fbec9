"""Boundary F-score: agreement between predicted and true contours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, hypot

import numpy as np

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["TOLERANCE", "BoundaryFScore", "BoundaryScores", "contours", "fill_void_lines"]

TOLERANCE = 0.0075
"""Largest distance between matching contours, as a share of the image diagonal: 4.5 pixels for 480x360."""
_MIN_VISIBLE = 0.25
"""Smallest visible share of the true contours with which void lines stay void. VOC has 0 to 0.10, CamVid 0.46 to 1."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """Boundary F-scores of one evaluation, all in [0, 1]."""

    mean: float | None
    """Mean of ``per_class`` over the classes that have a score; None if no class has one."""
    per_class: tuple[float | None, ...]
    """Mean over the images; None for a class without a contour in any image."""


class BoundaryFScore:
    """Boundary F-score accumulated over images: contours match within a distance tolerance.

    For each image and class, with contours T (ground truth) and P (prediction) and the Euclidean distance d:

        precision = share of P with d(p, T) < tolerance,   recall = share of T with d(t, P) < tolerance
        F = 2 precision recall / (precision + recall),     0 if either contour is empty

    F is averaged over the images in which the class has a contour in the ground truth or the prediction, then over
    classes. An image without such a contour (the class does not occur, or fills all labelled pixels) is not counted.

    Some data sets, PASCAL VOC among them, draw a narrow void line around every object. In an image in which such lines
    hide more than three quarters of the contours, the measure is taken across them, see ``fill_void_lines``.

    Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
    section 3: the score, computed for each image, and the tolerance of 0.75 % of the diagonal. DAVIS (Perazzi et
    al., CVPR 2016) has the same measure with 0.8 %, rounded up to whole pixels. ``contours`` defines a contour.
    """

    def __init__(self, classes: int) -> None:
        self._sums = np.zeros(classes, np.float64)
        self._images = np.zeros(classes, np.int64)

    def add(self, labels: Labels, truth: Labels) -> None:
        """Add one image.

        Args:
            labels: predicted class IDs, uint8 (H, W), all below the number of classes.
            truth: class IDs of the ground truth, uint8 (H, W). Where it is void (255), the prediction is ignored,
                except on lines that hide the contours.

        Raises:
            ValueError: the shapes differ.
        """
        if labels.shape != truth.shape:
            raise ValueError(f"labels {labels.shape} and truth {truth.shape} must have the same shape")
        tolerance = TOLERANCE * hypot(*truth.shape)
        true = contours(truth)
        filled = fill_void_lines(truth, tolerance)
        across = contours(filled)
        if np.count_nonzero(true != VOID) < _MIN_VISIBLE * np.count_nonzero(across != VOID):
            truth, true = filled, across
        predicted = contours(np.where(truth == VOID, np.uint8(VOID), labels))
        for index in range(len(self._sums)):
            predicted_contour, true_contour = _contour_of(predicted, index), _contour_of(true, index)
            if predicted_contour.any() or true_contour.any():
                self._sums[index] += _f_score(predicted_contour, true_contour, tolerance)
                self._images[index] += 1

    def scores(self, class_ids: Collection[int] | None = None) -> BoundaryScores:
        """Return the scores over all images added so far; of ``class_ids`` only, if given."""
        counted = [n if class_ids is None or index in class_ids else 0 for index, n in enumerate(self._images)]
        means = [float(s / n) if n else None for s, n in zip(self._sums, counted, strict=True)]
        known = [mean for mean in means if mean is not None]
        return BoundaryScores(float(np.mean(known)) if known else None, tuple(means))


def fill_void_lines(truth: Labels, tolerance: float) -> Labels:
    """Return ``truth`` with the nearest class on void lines that are narrower than twice ``tolerance``, in pixels.

    The true contour lies somewhere in such a line, so the middle of the line is less than ``tolerance`` from it. Wider
    void areas, which no disc of radius ``tolerance`` leaves out (morphological opening), stay void.
    """
    void = truth == VOID
    if not void.any() or void.all():
        return truth
    void_mask = void.astype(np.uint8)
    core = cv2.distanceTransform(void_mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) >= tolerance
    lines = void
    if core.any():
        to_core = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        lines = void & (to_core >= tolerance)
    _, nearest = cv2.distanceTransformWithLabels(
        void_mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    class_of = np.full(int(nearest.max()) + 1, VOID, np.uint8)
    class_of[nearest[~void]] = truth[~void]
    return np.where(lines, class_of[nearest], truth)


def contours(labels: Labels) -> Labels:
    """Return the class of each pixel on the contour of its class, 255 elsewhere; uint8 (H, W).

    A pixel is on the contour of its class if one of its four neighbours has another class. Neither void (255) nor the
    image border counts as another class: there is no contour where the labelled area ends.
    """
    # Void is mapped to the lowest value for the maximum, and is the highest for the minimum, so it never wins either.
    highest = cv2.dilate(np.where(labels == VOID, np.uint8(0), labels), _CROSS)
    lowest = cv2.erode(labels, _CROSS)
    inside = (highest == labels) & (lowest == labels)
    return np.where(inside, np.uint8(VOID), labels)


def _contour_of(lines: Labels, index: int) -> Labels:
    """Return 255 on the contour of one class, else 0; uint8 (H, W)."""
    return np.where(lines == index, np.uint8(255), np.uint8(0))


def _f_score(predicted: Labels, true: Labels, tolerance: float) -> float:
    """Return F for the contours of one class in one image; at least one of the two is not empty."""
    precision = _share_near(predicted, true, tolerance)
    recall = _share_near(true, predicted, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(points: Labels, others: Labels, tolerance: float) -> float:
    """Return the share of ``points`` less than ``tolerance`` pixels from ``others``; 0 if either is empty."""
    if not points.any() or not others.any():
        return 0.0
    # Compute distances only around ``others``: most contours lie in a small part of the image.
    left, top, width, height = cv2.boundingRect(others)
    margin = ceil(tolerance)
    part = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
    distances = cv2.distanceTransform(cv2.bitwise_not(others[part]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = np.count_nonzero(distances[points[part] != 0] < tolerance)
    return near / np.count_nonzero(points)
