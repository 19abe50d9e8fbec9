"""The value of a rule in the labels of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np

from rtseg.events.rule import Rule
from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["count_objects", "measure"]

_ENOUGH_PX: Final = 320
"""Width or height that is enough to count objects."""
_SMALLEST_SHARE: Final = 5e-4
"""Of the frame: a smaller connected area is no object, unless the rule says its size."""


def measure(rule: Rule, class_ids: Sequence[int], labels: Labels, frame_px: int) -> float | None:
    """The value that a rule compares with its threshold.

    Args:
        rule: says what to measure.
        class_ids: of its classes.
        labels: class IDs, uint8 (H, W), of the frame or a region; void (255) outside of the region.
        frame_px: pixels of the whole frame.

    Returns:
        Percent of the labelled pixels, pixels, or the number of objects, by ``rule.unit``; None if no pixel has a
        label, so that nothing is known.
    """
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).reshape(256).astype(np.float64)
    labelled = float(counts[:VOID].sum())
    if not labelled:
        return None
    pixels = float(counts[list(class_ids)].sum())
    if rule.unit == "%":
        return 100.0 * pixels / labelled
    if rule.unit == "px":
        return pixels
    smallest_px = max(1, round(_SMALLEST_SHARE * frame_px)) if rule.smallest_px is None else rule.smallest_px
    return float(count_objects(labels, class_ids, smallest_px)) if pixels >= smallest_px else 0.0


def count_objects(labels: Labels, class_ids: Sequence[int], smallest_px: int) -> int:
    """How many connected areas (8 neighbours) of these classes have at least ``smallest_px`` pixels.

    Objects that touch or hide each other are one area. In large frames every n-th pixel of every n-th row is looked at,
    as long as the smallest object has 16 of them: networks label no finer, and the time is a fraction.
    """
    step = max(1, min(max(labels.shape) // _ENOUGH_PX, isqrt(smallest_px // 16)))
    labels, smallest_px = np.ascontiguousarray(labels[::step, ::step]), round(smallest_px / step**2)
    table = np.zeros(256, np.uint8)
    table[list(class_ids)] = 1
    _, _, facts, _ = cv2.connectedComponentsWithStats(cv2.LUT(labels, table), connectivity=8)
    return int((facts[1:, cv2.CC_STAT_AREA] >= max(1, smallest_px)).sum())
