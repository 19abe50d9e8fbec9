"""Labels carried from frame to frame along the optical flow, so that the network need not run on every frame."""

from __future__ import annotations

import numpy as np

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.pipeline.optical_flow import MotionEstimator, MotionPath

__all__ = ["KeyFrame", "Propagator", "View"]

_SMOOTHING_DIFFERENCE = 12.0
"""Largest difference at which smoothing trusts the motion, in grey levels, divided by the frames between two key
frames: the longer the motion, the sooner a new label is believed. Chosen on the drawn street."""


class KeyFrame:
    """A frame on which the network runs. Made by ``Propagator.start_key``."""

    def __init__(self, pts_s: float, previous: View | None) -> None:
        self.pts_s = pts_s
        """Its time in the source, in seconds."""
        self.previous = previous
        """The view of the key frame before, at this frame; None at the beginning of a scene, and without smoothing."""
        self.network_labels: Labels | None = None
        """What the network said; None until it has answered."""
        self.labels: Labels | None = None
        """What is carried to later frames."""


class View:
    """A frame as seen from a key frame: it has labels as soon as the key frame has. Made by ``Propagator.view``."""

    def __init__(self, key: KeyFrame, path: MotionPath, *, mark: bool) -> None:
        self.key = key
        self.path = path
        self._mark = mark

    def labels(self) -> Labels:
        """The class IDs of the frame, uint8 (H, W) of the size of the network's labels; do not modify them.

        With ``mark``, they are void (255) where the motion is not trusted.
        """
        held = self.key.labels
        assert held is not None, "the key frame has no labels yet"
        if not self.path.steps:
            return held
        carried = self.path.carry(held)
        if self._mark:
            carried[self.path.untrusted_at(held.shape)] = VOID
        return carried


class Propagator:
    """Carries labels along the motion between the frames of one video. For numpy arrays; knows no network.

    The labels of a frame are known at once::

        propagator = Propagator(every=3)
        for image in video:
            if propagator.advance(image):  # the network has to run on this frame
                propagator.set_labels(network(image))
            labels = propagator.labels()

    Or they come later: give each key frame of ``start_key`` its labels with ``set_labels`` when they are there;
    ``labels`` are carried from the newest key frame that has some.

    Objects that appear between two key frames get a label of their own at the next key frame only.

    Args:
        every: the network has to run on every n-th frame at least; None if the caller alone decides.
        smooth: a pixel changes its class only where the network says so for two key frames running, or where the
            motion is not trusted. Labels of new objects then come one key frame later.
        mark: make pixels void (255) where the motion is not trusted. Without it carried labels are used there too: on
            CamVid they are right more often than the labels that the key frame has at the same place.
        late: labels come later than ``start_key``: earlier key frames stay in use until then.
        first_frame: position of the first frame in its video. Then the network has to run on the frames whose position
            is a multiple of ``every``, so that the result does not depend on where the video was divided.

    Raises:
        OptionError: ``every`` is less than 1.
    """

    def __init__(
        self,
        every: int | None = None,
        *,
        smooth: bool = False,
        mark: bool = False,
        late: bool = False,
        first_frame: int | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise OptionError(
                f"the network must run on every frame or less often: every must be 1 or more, got {every}"
            )
        self.every = every
        self._smooth, self._mark, self._late = smooth, mark, late
        self._first_frame = first_frame
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next one begins another video."""
        self._estimate = MotionEstimator()
        self._views: list[View] = []
        self._since_key = 0
        self._advanced = -1
        self._pts_s = 0.0
        self._newest: MotionPath | None = None
        self.is_new_scene = True
        """Whether the newest frame does not continue the one before it."""

    def advance(self, image: Image, pts_s: float = 0.0, *, still: bool = False) -> str:
        """Go on to the next frame.

        Args:
            image: uint8 (H, W, C), see ``rtseg.frame.Image``, best in the size of the network's input.
            pts_s: its time in the source, in seconds; a gap of more than a second begins a new scene.
            still: whether it is an independent image, not the frame of a video.

        Returns:
            Why the network has to run on this frame: ``first frame``, ``still image``, ``scene cut``, ``exposure``,
            ``large motion``, ``untrusted``, ``interval``; or an empty text: it need not.
        """
        step = self._estimate(image, pts_s, still=still)
        self._pts_s = pts_s
        self._newest = MotionPath(step.grey, step.grey)
        self._since_key += 1
        self._advanced += 1
        self.is_new_scene = step.flow is None
        if step.flow is None:
            self._views.clear()
            return step.reason
        self._views = [View(view.key, view.path.extend(step), mark=self._mark) for view in self._views]
        if step.reason or not self._views:
            return step.reason or "first frame"
        if self.every is not None and self._is_due(self.every):
            return "interval"
        return "untrusted" if self._views[-1].path.is_worn() else ""

    def _is_due(self, every: int) -> bool:
        if self._first_frame is None:
            return self._since_key >= every
        return (self._first_frame + self._advanced) % every == 0

    def start_key(self) -> KeyFrame:
        """Make the newest frame a key frame, whose labels ``set_labels`` will bring."""
        assert self._newest is not None, "call advance first"
        key = KeyFrame(self._pts_s, self._views[-1] if self._smooth and self._views else None)
        kept = self._views if self._late else []
        self._views = [*kept, View(key, self._newest, mark=self._mark)]
        self._since_key = 0
        return key

    def set_labels(self, labels: Labels, key: KeyFrame | None = None) -> None:
        """Give the labels of a key frame; give those of several in their order.

        Args:
            labels: class IDs, uint8 (H, W). They are kept: do not modify them.
            key: the key frame; None makes the newest frame one.
        """
        key = key or self.start_key()
        key.network_labels = labels
        key.labels = _smoothed(labels, key.previous) if self._smooth else labels
        key.previous = None  # or all earlier frames would stay in memory
        newest = max((index for index, view in enumerate(self._views) if view.key is key), default=0)
        del self._views[:newest]

    def view(self) -> View:
        """The newest frame as seen from the newest key frame, which may get its labels later."""
        return self._views[-1]

    def labels(self) -> Labels | None:
        """The labels of the newest frame, carried from the newest key frame that has labels; None if none has."""
        view = self.labelled_view()
        return view.labels() if view is not None else None

    def labelled_view(self) -> View | None:
        """The newest frame as seen from the newest key frame that has labels; None if none has."""
        return next((view for view in reversed(self._views) if view.key.labels is not None), None)


def _smoothed(labels: Labels, previous: View | None) -> Labels:
    """``labels`` where the network said the same at the key frame before, or the motion is not trusted."""
    if previous is None or previous.key.network_labels is None or previous.key.labels is None:
        return labels
    path = previous.path
    untrusted = path.untrusted_at(labels.shape, _SMOOTHING_DIFFERENCE / max(path.steps, 1))
    confirmed = (labels == path.carry(previous.key.network_labels)) | untrusted
    return np.where(confirmed, labels, path.carry(previous.key.labels))
