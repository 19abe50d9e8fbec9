"""The stages of a run: read, prepare, infer, render. Each is a generator that takes the output of the one before.

Each stage adds the time that it works on a frame to its ``durations``; waiting for other stages is not counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.frame import Frame, Image, Labels
from rtseg.image_io.decode import to_bgr
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.scene_cuts import CutDetector
from rtseg.preprocess import Prepare, resize_labels
from rtseg.regions.masks import Regions
from rtseg.sources.base import Source
from rtseg.visualize.effects import Effect
from rtseg.visualize.overlay import Overlay

__all__ = ["Batch", "PlaybackClock", "Result", "infer", "prepare", "read", "render"]

Batch = tuple[Frame, NDArray[np.uint8]]
"""A frame with the model's input for it, uint8 (1, H, W, C)."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A frame with its labels, ready for the sinks."""

    frame: Frame
    labels: Labels
    rendered: Image | None
    """None where no sink needs it."""


class PlaybackClock:
    """Delivers the frames of a file at the speed of a camera. Otherwise dropping would lose most of the file.

    Args:
        stop: ends the waiting once set.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._start_s: float | None = None

    def wait_for(self, frame: Frame) -> Frame:
        """Wait until ``frame`` is due; return it with the capture time of that moment."""
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s - frame.pts_s
        self._stop.wait(max(0.0, self._start_s + frame.pts_s - now_s))
        return replace(frame, captured_s=time.monotonic())


def read(source: Source, durations: Durations, clock: PlaybackClock | None = None) -> Iterator[Frame]:
    """Yield the frames of ``source``; those of a file when they are due, if there is a ``clock``."""
    started_s = time.perf_counter()
    for frame in source:
        durations.add(time.perf_counter() - started_s)
        yield frame if clock is None or source.live else clock.wait_for(frame)
        started_s = time.perf_counter()


def prepare(frames: Iterable[Frame], prepare_image: Prepare, durations: Durations) -> Iterator[Batch]:
    """Yield each frame with the model's input for it, uint8 (1, H, W, C)."""
    for frame in frames:
        started_s = time.perf_counter()
        batch = prepare_image(frame.image)[None]
        durations.add(time.perf_counter() - started_s)
        yield frame, batch


def infer(batches: Iterable[Batch], backend: Backend, durations: Durations) -> Iterator[tuple[Frame, Labels]]:
    """Yield each frame with its labels in the model's size, in order; up to ``backend.depth`` batches are in flight.

    A sequence model is reset at every scene cut.

    Raises:
        Exception: any error of ``batches`` or of the backend, after the frames that were in flight.
    """
    is_cut = CutDetector() if backend.recurrent else None
    in_flight: deque[tuple[Frame, Ticket, float]] = deque()

    def wait_for_oldest() -> tuple[Frame, Labels]:
        frame, ticket, started_s = in_flight.popleft()
        labels = backend.wait(ticket)[0].copy()  # the backend reuses its buffer
        durations.add(time.perf_counter() - started_s)
        return frame, labels

    error: Exception | None = None
    iterator = iter(batches)
    while True:
        try:
            frame, batch = next(iterator)
            started_s = time.perf_counter()
            if is_cut is not None and is_cut(batch[0], frame.pts_s, still=frame.name is not None):
                backend.reset()
            in_flight.append((frame, backend.submit(batch), started_s))
        except StopIteration:
            break
        except Exception as raised:  # noqa: BLE001 - raised below, after the frames that are in flight
            error = raised
            break
        if len(in_flight) >= backend.depth:
            yield wait_for_oldest()
    while in_flight:
        yield wait_for_oldest()
    if error is not None:
        raise error


def render(
    labelled: Iterable[tuple[Frame, Labels]],
    overlay: Overlay | None,
    durations: Durations,
    regions: Regions,
    effects: Sequence[Effect] = (),
) -> Iterator[Result]:
    """Yield each frame with labels of its own size, and with the image that ``overlay``, if any, draws of both.

    Labels outside of the ``regions`` without a name become void. The ``effects`` change the image of the frame itself:
    what they hide is in no output.

    Raises:
        OptionError: a region reaches beyond the frame.
    """
    for frame, model_labels in labelled:
        started_s = time.perf_counter()
        height, width = frame.image.shape[:2]
        labels = resize_labels(model_labels, (height, width))
        for effect in effects:
            frame = replace(frame, image=effect(to_bgr(frame.image), labels))
        labels = regions.limit(labels)
        rendered = overlay.draw(frame.image, labels) if overlay is not None else None
        durations.add(time.perf_counter() - started_s)
        yield Result(frame, labels, rendered)
