"""Temporal consistency of predicted labels in a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID

__all__ = ["Flicker", "MotionFlicker"]


class Flicker:
    """Share of pixels whose predicted label changes between consecutive frames while the ground truth does not.

    Counts the pixels whose ground truth has the same class in both frames; pixels that are void in either frame are
    left out. The camera may move: a pixel position counts if it shows the same class in both frames. The value depends
    on the data: frames labelled far apart flicker more than those of a video at full rate.
    """

    def __init__(self) -> None:
        self._changed = 0
        self._unchanged = 0
        self._previous: tuple[Labels, Labels] | None = None

    def add(self, labels: Labels, truth: Labels, *, is_next_frame: bool) -> None:
        """Add the next image. Both arrays, uint8 (H, W), are kept until the next call: do not modify them.

        Args:
            labels: predicted class IDs.
            truth: class IDs of the ground truth, 255 where void.
            is_next_frame: whether this is the frame after the last one added. A frame of another size is not compared.
        """
        if is_next_frame and self._previous is not None and self._previous[1].shape == truth.shape:
            previous_labels, previous_truth = self._previous
            unchanged = (truth == previous_truth) & (truth != VOID)
            self._unchanged += int(np.count_nonzero(unchanged))
            self._changed += int(np.count_nonzero(unchanged & (labels != previous_labels)))
        self._previous = (labels, truth)

    def share(self) -> float | None:
        """Return changed pixels / pixels of unchanged ground truth, in [0, 1]; None if no two frames were compared."""
        return self._changed / self._unchanged if self._unchanged else None


class MotionFlicker:
    """Share of pixels whose label differs from the label that the same point had in the frame before.

    Unlike ``Flicker`` it follows the motion and needs no ground truth: labels whose wrong borders move with the image
    do not flicker.
    """

    def __init__(self) -> None:
        self._changed = 0
        self._compared = 0

    def add(self, labels: Labels, carried: Labels, trusted: NDArray[np.bool_]) -> None:
        """Add a frame.

        Args:
            labels: class IDs, uint8 (H, W).
            carried: those of the frame before, moved along the motion, uint8 (H, W).
            trusted: where the motion is known, bool (H, W).
        """
        self._compared += int(np.count_nonzero(trusted))
        self._changed += int(np.count_nonzero(trusted & (labels != carried)))

    def share(self) -> float | None:
        """Return changed pixels / compared pixels, in [0, 1]; None if no two frames were compared."""
        return self._changed / self._compared if self._compared else None
