"""How steady labels are from frame to frame of a video."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Labels
from rtseg.model_file.spec import VOID

__all__ = ["Flicker"]


class Flicker:
    """Share of pixels whose label changes from one frame to the next where the truth does not.

    Counted are the pixels of consecutive frames that have one class in the truth of both; void in either is left out.
    The camera may move: what counts is that the place in the image shows the same class. Between which frames is up
    to the data: frames labelled far apart flicker more than those of a video at full rate.
    """

    def __init__(self) -> None:
        self._changed = 0
        self._steady = 0
        self._before: tuple[Labels, Labels] | None = None

    def add(self, labels: Labels, truth: Labels, *, follows: bool) -> None:
        """Take the next image; both uint8 (H, W), kept until the next call and not to be changed.

        Args:
            labels: predicted class ids.
            truth: class ids, 255 where void.
            follows: whether it is the frame after the one given before it. One of another size does not.
        """
        if follows and self._before is not None and self._before[1].shape == truth.shape:
            labels_before, truth_before = self._before
            steady = (truth == truth_before) & (truth != VOID)
            self._steady += int(np.count_nonzero(steady))
            self._changed += int(np.count_nonzero(steady & (labels != labels_before)))
        self._before = (labels, truth)

    def share(self) -> float | None:
        """Changed pixels / pixels of unchanged truth, in [0, 1]; None where no two frames could be compared."""
        return self._changed / self._steady if self._steady else None
