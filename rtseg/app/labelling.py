"""Label the images of a data set in their order, by the network alone or with labels carried along the motion."""

from __future__ import annotations

from rtseg.backends.base import Backend
from rtseg.frame import Image, Labels
from rtseg.metrics.temporal import MotionFlicker
from rtseg.pipeline.optical_flow import MotionEstimator, MotionPath
from rtseg.pipeline.propagation import Propagator
from rtseg.preprocess import Prepare

__all__ = ["SequenceLabeller"]


class SequenceLabeller:
    """Labels images as ``rtseg stream`` would.

    Args:
        backend: runs the network.
        prepare: makes its input.
        every: the network runs on every n-th image of a video; None: on all of them.
        smooth: show a new class where the network said so twice running, see ``Propagator``.
    """

    def __init__(self, backend: Backend, prepare: Prepare, every: int | None = None, *, smooth: bool = False) -> None:
        self._backend = backend
        self._prepare = prepare
        self._propagator = Propagator(every or 1, smooth=smooth)
        self.motion_flicker = MotionFlicker()
        self._start_video()

    def _start_video(self) -> None:
        self._estimate = MotionEstimator()
        self._previous: Labels | None = None

    def reset(self) -> None:
        """The next image does not continue the last one."""
        self._backend.reset()
        self._propagator.reset()
        self._start_video()

    def __call__(self, image: Image) -> Labels:
        """Return the class IDs of an image, uint8 (h, w) of the size of the model, as a new array."""
        prepared = self._prepare(image)
        if self._propagator.advance(prepared):
            self._propagator.set_labels(self._backend.infer(prepared[None])[0].copy())
        labels = self._propagator.labels()
        assert labels is not None  # the network runs on the first image
        self._compare(prepared, labels)
        return labels

    def _compare(self, prepared: Image, labels: Labels) -> None:
        step = self._estimate(prepared, 0.0)
        if self._previous is not None and step.flow is not None:
            path = MotionPath(step.previous, step.previous).extend(step)
            self.motion_flicker.add(labels, path.carry(self._previous), ~path.untrusted_at(labels.shape))
        self._previous = labels
