"""The stage that replaces ``infer`` where the network does not run on every frame."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.frame import Frame, Labels
from rtseg.model_file.spec import VOID
from rtseg.pipeline.channel import Channel, ChannelEnded, NothingCame
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.key_interval import KeyInterval
from rtseg.pipeline.propagation import KeyFrame, Propagator, View
from rtseg.pipeline.stages import Batch

__all__ = [
    "PropagationCounters",
    "Request",
    "answer_requests",
    "carry_newest_labels",
    "infer_key_frames",
    "live_or_recorded",
]

_QUICK_S = 0.015
"""A network that answered within this time is waited for this long: its own labels are better than carried ones."""


@dataclass(slots=True)
class PropagationCounters:
    """Why the network ran, and how old the labels of the frames were."""

    reasons: Counter[str] = field(default_factory=Counter)
    """How often the network ran, by the reason of ``Propagator.advance``."""
    label_age: Durations = field(default_factory=Durations)
    """Time in the source from the key frame to the frame that has its labels."""
    unlabelled: int = 0
    """Frames for which no labels were there yet."""
    last_age_s: float | None = None
    """Of the labels of the last frame; None if it has none."""

    def add_age(self, age_s: float | None) -> None:
        """Count a frame whose labels are ``age_s`` seconds older than itself; None: it has no labels."""
        self.last_age_s = age_s
        if age_s is None:
            self.unlabelled += 1
        else:
            self.label_age.add(age_s)

    def summary(self) -> dict[str, object]:
        """The counters as JSON values."""
        age = self.label_age.summary()
        return {
            "key_frames": dict(self.reasons),
            "label_age_ms": {key: age[f"{key}_ms"] for key in ("mean", "p50", "p95", "max")},
            "frames_without_labels": self.unlabelled,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A key frame that the network is to label."""

    key: KeyFrame
    batch: NDArray[np.uint8]
    """The model's input, uint8 (1, H, W, C)."""
    new_scene: bool
    """Whether a sequence model must be reset before."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A frame whose labels are not known yet."""

    frame: Frame
    view: View
    ticket: Ticket | None
    """None if it is not a key frame."""
    started_s: float


def infer_key_frames(
    batches: Iterable[Batch],
    backend: Backend,
    propagator: Propagator,
    durations: dict[str, Durations],
    counters: PropagationCounters,
    interval: KeyInterval | None = None,
) -> Iterator[tuple[Frame, Labels]]:
    """Yield each frame with its labels in the model's size, in order; the network runs on key frames only.

    Up to ``backend.depth`` key frames are in flight, together with the frames between them. The result does not depend
    on the speed of the stages, unless ``interval`` makes it.

    Raises:
        Exception: any error of ``batches`` or of the backend, after the frames that were in flight.
    """
    waiting: deque[_Waiting] = deque()

    def finish(most_in_flight: int) -> Iterator[tuple[Frame, Labels]]:
        in_flight = sum(item.ticket is not None for item in waiting)
        while waiting and (waiting[0].ticket is None or in_flight > most_in_flight):
            item = waiting.popleft()
            if item.ticket is not None:
                in_flight -= 1
                labels = backend.wait(item.ticket)[0].copy()  # the backend reuses its buffer
                durations["infer"].add(time.perf_counter() - item.started_s)
                propagator.set_labels(labels, item.view.key)
            started_s = time.perf_counter()
            carried = item.view.labels()
            durations["carry"].add(time.perf_counter() - started_s)
            counters.add_age(item.frame.pts_s - item.view.key.pts_s)
            if interval is not None:
                interval.count(time.monotonic())
            yield item.frame, carried

    error: Exception | None = None
    iterator = iter(batches)
    while True:
        try:
            frame, batch = next(iterator)
            if interval is not None:
                propagator.every = interval.frames
            started_s = time.perf_counter()
            reason = propagator.advance(batch[0], frame.pts_s, still=frame.name is not None)
            durations["flow"].add(time.perf_counter() - started_s)
            ticket = None
            started_s = time.perf_counter()
            if reason:
                counters.reasons[reason] += 1
                if propagator.is_new_scene:
                    backend.reset()
                propagator.start_key()
                ticket = backend.submit(batch)
            waiting.append(_Waiting(frame, propagator.view(), ticket, started_s))
        except StopIteration:
            break
        except Exception as raised:  # noqa: BLE001 - raised below, after the frames that are in flight
            error = raised
            break
        yield from finish(backend.depth - 1)
    yield from finish(0)
    if error is not None:
        raise error


def answer_requests(
    requests: Iterable[Request], backend: Backend, durations: Durations
) -> Iterator[tuple[KeyFrame, Labels, float]]:
    """Yield each key frame with the labels of the network and the seconds that these took."""
    for request in requests:
        started_s = time.perf_counter()
        if request.new_scene:
            backend.reset()
        labels = backend.infer(request.batch)[0].copy()  # the backend reuses its buffer
        spent_s = time.perf_counter() - started_s
        durations.add(spent_s)
        yield request.key, labels, spent_s


def carry_newest_labels(
    batches: Iterable[Batch],
    requests: Channel[Request],
    answers: Channel[tuple[KeyFrame, Labels, float]],
    propagator: Propagator,
    durations: dict[str, Durations],
    counters: PropagationCounters,
    size: tuple[int, int],
) -> Iterator[tuple[Frame, Labels]]:
    """Yield each frame at once with the newest labels carried onto it; the network runs beside this, on its own thread.

    Whenever the network is idle, it gets the newest frame. Frames before its first answer, and those after a scene cut
    until its next one, are void (255).

    Args:
        batches: the frames with the model's input.
        requests: to the network; ended with ``batches``.
        answers: from the network.
        propagator: one with ``late``.
        durations: of ``flow`` and ``carry``.
        counters: of key frames and the age of labels.
        size: (H, W) of the model.

    Raises:
        Exception: any error of ``batches`` or of the network.
    """
    is_busy, new_scene, wait_s = False, False, 0.0
    try:
        for frame, batch in batches:
            started_s = time.perf_counter()
            reason = propagator.advance(batch[0], frame.pts_s, still=frame.name is not None)
            durations["flow"].add(time.perf_counter() - started_s)
            new_scene = new_scene or propagator.is_new_scene
            is_busy = is_busy and not _take_answer(answers, propagator, 0.0)[0]
            if not is_busy:
                requests.put(Request(propagator.start_key(), batch, new_scene))
                counters.reasons[reason or "idle"] += 1
                is_busy, new_scene = True, False
                if wait_s <= _QUICK_S:
                    answered, wait_s = _take_answer(answers, propagator, _QUICK_S)
                    is_busy = not answered
            started_s = time.perf_counter()
            view = propagator.labelled_view()
            labels = view.labels() if view is not None else np.full(size, VOID, np.uint8)
            durations["carry"].add(time.perf_counter() - started_s)
            counters.add_age(frame.pts_s - view.key.pts_s if view is not None else None)
            yield frame, labels
    finally:
        requests.end()


def _take_answer(
    answers: Channel[tuple[KeyFrame, Labels, float]], propagator: Propagator, timeout_s: float
) -> tuple[bool, float]:
    """Take the answer of the network if there is one within ``timeout_s``: whether there was, and how long it took."""
    try:
        key, labels, spent_s = answers.get(timeout_s)
    except (NothingCame, ChannelEnded):  # none yet, or the run is being closed
        return False, float("inf")
    propagator.set_labels(labels, key)
    return True, spent_s


def live_or_recorded(
    batches: Iterable[Batch],
    is_live: Callable[[], bool],
    live: Callable[[Iterable[Batch]], Iterator[tuple[Frame, Labels]]],
    recorded: Callable[[Iterable[Batch]], Iterator[tuple[Frame, Labels]]],
) -> Iterator[tuple[Frame, Labels]]:
    """Use ``live`` or ``recorded``: a source may know only at its first frame whether it is live."""
    iterator = iter(batches)
    first = list(islice(iterator, 1))
    yield from (live if is_live() else recorded)(chain(first, iterator))
