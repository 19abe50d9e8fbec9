"""Optical flow between the frames of a video, and positions followed along it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image, Labels
from rtseg.pipeline.scene_cuts import CutDetector
from rtseg.system.opencv import cv2

__all__ = ["MotionEstimator", "MotionPath", "Step"]

_LONG_SIDE = 256
"""Longer side of the images that are compared, in pixels. Larger ones cost more and carry labels no better."""
_SHORTEST_SIDE = 32
"""Smallest side for which the flow can be computed."""
_FINEST_SCALE = 1
"""The flow is computed at half of the compared size; 2, the default of the preset, loses 0.3 points of mIoU."""
_BLOCK = 5
"""Side of the block whose mean difference is judged, in pixels of the compared size."""
_MAX_DIFFERENCE = 20.0
"""Largest mean difference of a trusted block, in grey levels, between a frame and the key frame moved onto it."""
_MAX_UNTRUSTED = 0.25
"""Largest share of pixels that may be untrusted before the network has to run."""
_MAX_EXPOSURE_STEP = 16.0
"""Largest change of the mean brightness between two frames, in grey levels."""
_MAX_MOTION = 1 / 16
"""Largest motion of a twentieth of the image between two frames, as a share of its longer side: the flow
finds no larger one."""

_NO_ARRAY: Any = None
"""For optional arguments that OpenCV's type hints say to be arrays."""

_Grey = NDArray[np.uint8]
_Positions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The motion from one frame to the next."""

    grey: _Grey
    """The newer frame, small and grey, uint8 (h, w)."""
    previous: _Grey
    """The older frame; the newer one itself where there is none."""
    flow: _Positions | None
    """For each pixel of the newer frame, how far away it was in the older one: float32 (h, w, 2), x and y in pixels of
    ``grey``. None where ``reason`` says that the frames do not belong together."""
    reason: str
    """Why labels must not be carried over this step: ``first frame``, ``still image`` or ``scene cut``; or why they
    soon get worse: ``exposure`` or ``large motion``; or empty."""


class MotionEstimator:
    """Computes the motion from each frame to the next. Use one for each source, on one thread.

    The flow is dense inverse search with the preset ``ultrafast`` (Kroeger et al., "Fast Optical Flow using Dense
    Inverse Search", ECCV 2016, arXiv:1603.03590), on grey images of at most 256 pixels.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(_FINEST_SCALE)
        self._is_cut = CutDetector()
        self._size: tuple[int, ...] = ()
        self._grey: _Grey | None = None

    def __call__(self, image: Image, pts_s: float, *, still: bool = False) -> Step:
        """The motion from the last frame to ``image``.

        Args:
            image: uint8 (H, W, C), see ``rtseg.frame.Image``.
            pts_s: its time in the source, in seconds.
            still: whether it is an independent image, not the frame of a video.
        """
        if self._size != image.shape[:2]:
            self._size, self._grey, self._is_cut = image.shape[:2], None, CutDetector()
        cut = self._is_cut(image[..., :3] if image.shape[2] > 2 else _repeat_grey(image), pts_s, still=still)
        grey = _small_grey(image)
        previous, self._grey = self._grey, grey
        if previous is None:
            return Step(grey, grey, None, "first frame")
        if cut:
            return Step(grey, previous, None, "still image" if still else "scene cut")
        flow = np.asarray(self._flow.calc(grey, previous, _NO_ARRAY), np.float32)
        return Step(grey, previous, flow, _unusual(flow, grey, previous))


@dataclass(frozen=True, slots=True, eq=False)
class MotionPath:
    """Where each pixel of a frame was in an earlier frame, its key frame. Paths are not modified but extended.

    The flows of all steps are joined into one map, so labels are sampled once however long the path is.
    """

    key_grey: _Grey
    """The key frame, small and grey, uint8 (h, w)."""
    grey: _Grey
    """The newest frame."""
    positions: _Positions | None = None
    """float32 (h, w, 2): x and y in the key frame for each pixel of the newest one; None while they are the same."""
    steps: int = 0
    """Frames from the key frame to the newest."""

    def extend(self, step: Step) -> MotionPath:
        """The path to the next frame. ``step.flow`` must not be None."""
        assert step.flow is not None
        moved = _grid(step.grey.shape) + step.flow
        if self.positions is not None:
            moved = _sample(self.positions, moved, cv2.INTER_LINEAR)
        return replace(self, grey=step.grey, positions=moved, steps=self.steps + 1)

    def carry(self, labels: Labels) -> Labels:
        """Move class IDs of the key frame, uint8 (H, W), to where their pixels are in the newest frame.

        What comes into view at an edge takes the label of the nearest pixel. Without a step, ``labels`` itself.
        """
        if self.positions is None:
            return labels
        (height, width), small = labels.shape, self.positions.shape
        scale = np.array((width / small[1], height / small[0]), np.float32)
        # Pixel centres lie at +0.5: scale about them, not about the corners.
        scaled = (self.positions + np.float32(0.5)) * scale - np.float32(0.5)
        full = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(_sample(labels, full, cv2.INTER_NEAREST), np.uint8)

    def untrusted(self, max_difference: float = _MAX_DIFFERENCE) -> NDArray[np.uint8]:
        """Where carried labels are not trusted: uint8 (h, w), 1 there, else 0.

        These are pixels that were outside the key frame, and blocks that look different from the key frame moved onto
        them: uncovered background, new objects, and wrong flow. A change of the whole image's brightness is ignored.

        Args:
            max_difference: largest mean difference of a trusted block, in grey levels.
        """
        if self.positions is None:
            return np.zeros(self.grey.shape, np.uint8)
        moved = _sample(self.key_grey, self.positions, cv2.INTER_LINEAR)
        difference = cv2.subtract(self.grey, moved, dtype=cv2.CV_16S)
        difference = np.abs(difference - round(cv2.mean(difference)[0]))
        blocks = cv2.blur(difference, (_BLOCK, _BLOCK))
        height, width = self.grey.shape
        x, y = cv2.split(self.positions)
        outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
        return np.asarray((blocks > max_difference) | outside, np.uint8)

    def untrusted_at(self, size: tuple[int, int], max_difference: float = _MAX_DIFFERENCE) -> NDArray[np.bool_]:
        """``untrusted`` for each pixel of labels of ``size`` = (H, W): bool (H, W)."""
        resized = cv2.resize(self.untrusted(max_difference), size[::-1], interpolation=cv2.INTER_NEAREST)
        return np.asarray(resized, np.uint8).view(np.bool_)

    def is_worn(self) -> bool:
        """Whether more than a quarter of the image is untrusted."""
        untrusted = self.untrusted()
        return cv2.countNonZero(untrusted) > _MAX_UNTRUSTED * untrusted.size


def _sample(array: NDArray[Any], positions: NDArray[Any], interpolation: int) -> NDArray[Any]:
    """The values of ``array`` at ``positions``; beyond its edges those of the nearest pixel."""
    return np.asarray(cv2.remap(array, positions, _NO_ARRAY, interpolation, borderMode=cv2.BORDER_REPLICATE))


@cache
def _grid(shape: tuple[int, int]) -> _Positions:
    """The position of each pixel, float32 (h, w, 2)."""
    x, y = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    return np.dstack((x, y))


def _repeat_grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image[..., 0], cv2.COLOR_GRAY2BGR), np.uint8)


def _small_grey(image: Image) -> _Grey:
    shrink = min(1.0, _LONG_SIDE / max(image.shape[:2]))
    height, width = (max(_SHORTEST_SIDE, round(side * shrink)) for side in image.shape[:2])
    grey = image[..., 0] if image.shape[2] <= 2 else cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _unusual(flow: _Positions, grey: _Grey, previous: _Grey) -> str:
    if abs(cv2.mean(grey)[0] - cv2.mean(previous)[0]) > _MAX_EXPOSURE_STEP:
        return "exposure"
    fast = cv2.magnitude(*cv2.split(flow)) > _MAX_MOTION * max(grey.shape)
    return "large motion" if np.count_nonzero(fast) > fast.size / 20 else ""
