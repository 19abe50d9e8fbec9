"""The road of a frame: source, prepare, infer, render, sinks. The only file that starts the threads of a run.

    source ──► prepare ──► infer ──► render ──► sinks
    (thread)   (thread)    (thread)  (thread)   (the caller's thread: windows want the main one)

Between any two stands a bounded channel. A file waits; a live source forgets its oldest frame, which is counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend
from rtseg.errors import OptionError, SinkClosed
from rtseg.frame import Frame, Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.pipeline.channel import Channel, Ended
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.scene_cuts import CutDetector
from rtseg.preprocess import Prepare, resize_labels
from rtseg.sinks.base import Sink
from rtseg.sources.base import Source
from rtseg.visualize.overlay import Overlay

__all__ = ["DROP", "Pipeline", "RunReport", "Status"]

T = TypeVar("T")

DROP = ("auto", "always", "never")

_CAPACITY = 3
"""Of a channel: enough to even out stages of unequal pace, little enough to stay in the caches."""
_LIVE_CAPACITY = 1
"""Of a channel where the newest counts: a frame that waits grows old."""
_TICK_S = 0.25
"""Longest time between two looks of the observer."""
_GRACE_S = 0.8
"""After ``stop``: how long frames in hand may take to come out."""
_JOIN_S = 0.5
_RECENT = 60
"""Frames over which the shown rate is taken."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a run looks like now; made for a panel, cheap enough for a few looks a second."""

    fps: float
    """Over the last frames."""
    latency_ms: float
    """Of the last frame, from the source's hand to the last sink's."""
    frames_read: int
    frames_written: int
    frames_dropped: int
    frames_damaged: int
    queues: dict[str, int]
    """Frames that wait behind each stage."""
    shares: NDArray[np.float64]
    """Share of pixels of each class in the last frame, in [0, 1]."""
    pts_s: float
    """Time of the last frame in the source, in seconds."""
    wall_s: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did, once it has ended."""

    ended: str
    """Why: ``end of source``, ``window closed``, ``stopped``, or the text of an error."""
    frames_read: int
    frames_segmented: int
    frames_written: int
    frames_dropped: int
    frames_damaged: int
    fps: float
    """(n - 1) / (last - first) over the times at which frames left the last sink; 0 for fewer than two."""
    latency_ms: dict[str, float]
    """From the source's hand to the last sink's: p50, p95, p99, max."""
    stages: dict[str, dict[str, float]]
    """Of each stage and sink: mean_ms, p50_ms, p95_ms, p99_ms, max_ms of the work on one frame, waiting left out.
    ``infer`` runs from submit to labels, with the batches before it in flight."""
    wall_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    frame: Frame
    labels: Labels
    rendered: Image | None


class Pipeline:
    """One run of one source through one backend into sinks. Use once, in ``with``; ``stop`` from any thread.

    The caller opens and closes the backend and the sinks; the source is opened and closed by its own thread.

    Args:
        source: where frames come from.
        backend: what labels them.
        sinks: where results go, in this order.
        overlay: draws the images; needed if any sink wants them.
        drop: ``auto`` drops the oldest frame of live sources alone; ``always`` plays files at their own pace and drops,
            as if they were live; ``never`` drops none.
        prepare: makes the model's input, where that is not as the model file says.

    Raises:
        OptionError: ``drop`` is not known, or the source has no images of the channels that the model wants.
        ModelError: a preprocessing step of the model is not known.
    """

    def __init__(
        self,
        source: Source,
        backend: Backend,
        sinks: Sequence[Sink],
        overlay: Overlay,
        *,
        drop: str = "auto",
        prepare: Prepare | None = None,
    ) -> None:
        if drop not in DROP:
            raise OptionError(f"--drop must be one of {', '.join(DROP)}, got {drop!r}")
        source.set_output_format(backend.spec.channels, backend.spec.size)
        self._source = source
        self._backend = backend
        self._sinks = list(sinks)
        self._overlay = overlay
        self._drop = drop
        self._prepare_image = prepare or Prepare(backend.spec)
        self._draws = any(sink.needs_rendered for sink in self._sinks)
        self._running: list[tuple[str, Channel[Any], Thread]] = []
        self._stop = Event()
        self._stopped_at = float("inf")
        self._clock_s: float | None = None
        self._durations = {name: Durations() for name in ("read", "prepare", "infer", "render")}
        self._durations |= {sink.kind: Durations() for sink in self._sinks}
        self._latency = Durations()
        self._segmented = 0
        self._written = 0
        self._left_at: deque[float] = deque(maxlen=_RECENT)
        self._first_s = self._last_s = self._started_s = 0.0
        self._last: tuple[Frame, Labels] | None = None

    def stop(self) -> None:
        """Let the frames in hand come out, then end. Safe in a signal handler."""
        if not self._stop.is_set():
            self._stopped_at = time.monotonic()
            self._stop.set()
            self._source.stop()

    def run(self, on_progress: Callable[[Status], None] | None = None) -> str:
        """Send every frame through; returns why it ended.

        ``on_progress`` is called on this thread, at least four times a second while nothing comes, else after a frame.

        Raises:
            RtsegError: of the source, the backend, or a sink, after the frames before it have been written.
        """
        self._started_s = time.monotonic()
        results = self._stages()
        looked_s = self._started_s
        while True:
            try:
                self._write(results.get(_TICK_S))
            except Ended:
                break
            except TimeoutError:
                pass  # nothing came: the observer shall see that, too
            except SinkClosed:
                self.stop()
                return "window closed"
            now = time.monotonic()
            if now > self._stopped_at + _GRACE_S:
                break
            if on_progress is not None and now - looked_s >= _TICK_S:
                on_progress(self.status())
                looked_s = now
        return "stopped" if self._stop.is_set() else "end of source"

    def _stages(self) -> Channel[_Result]:
        frames = self._stage("read", self._read(), drop_oldest=self._drops)
        prepared = self._stage("prepare", self._prepare(frames))
        labelled = self._stage("infer", self._infer(prepared))
        return self._stage("render", self._render(labelled))

    def _drops(self) -> bool:
        return self._drop == "always" or (self._drop == "auto" and self._source.live)

    def _stage(
        self,
        name: str,
        items: Iterable[T],
        *,
        drop_oldest: Callable[[], bool] = lambda: False,
    ) -> Channel[T]:
        """Run ``items`` on a thread of its own; read them, in order, from the channel."""
        channel: Channel[T] = Channel(_LIVE_CAPACITY if self._drops() else _CAPACITY)
        thread = Thread(
            target=channel.fill,
            args=(items,),
            kwargs={"drop_oldest": drop_oldest},
            name=f"rtseg-{name}",
            daemon=True,  # a read blocked in C must not keep the process from ending
        )
        self._running.append((name, channel, thread))
        thread.start()
        return channel

    def _read(self) -> Iterator[Frame]:
        durations = self._durations["read"]
        paced = self._drop == "always"
        begun_s = time.perf_counter()
        for frame in self._source:
            durations.add(time.perf_counter() - begun_s)
            yield self._at_its_time(frame) if paced and not self._source.live else frame
            begun_s = time.perf_counter()

    def _at_its_time(self, frame: Frame) -> Frame:
        """Hold a file's frame until a camera would have given it: else dropping would lose most of the file."""
        now = time.monotonic()
        if self._clock_s is None:
            self._clock_s = now - frame.pts_s
        self._stop.wait(max(0.0, self._clock_s + frame.pts_s - now))
        return replace(frame, captured_s=time.monotonic())

    def _prepare(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
        durations = self._durations["prepare"]
        for frame in frames:
            begun_s = time.perf_counter()
            batch = self._prepare_image(frame.image)[None]
            durations.add(time.perf_counter() - begun_s)
            yield frame, batch

    def _infer(self, prepared: Iterable[tuple[Frame, NDArray[np.uint8]]]) -> Iterator[tuple[Frame, Labels]]:
        """Keep ``depth`` batches in flight and hand their labels on in order; a sequence model forgets at a cut."""
        durations = self._durations["infer"]
        begins_anew = CutDetector() if self._backend.recurrent else None
        in_flight: deque[tuple[Frame, Any, float]] = deque()

        def oldest() -> tuple[Frame, Labels]:
            frame, ticket, begun_s = in_flight.popleft()
            labels = self._backend.wait(ticket)[0].copy()  # the backend takes its buffer back
            durations.add(time.perf_counter() - begun_s)
            self._segmented += 1
            return frame, labels

        error: Exception | None = None
        batches = iter(prepared)
        while True:
            try:
                frame, batch = next(batches)
                begun_s = time.perf_counter()
                if begins_anew is not None and begins_anew(batch[0], frame.pts_s, still=frame.name is not None):
                    self._backend.reset()
                in_flight.append((frame, self._backend.submit(batch), begun_s))
            except StopIteration:
                break
            except Exception as raised:  # noqa: BLE001 - raised below, after the frames that are in flight
                error = raised
                break
            if len(in_flight) >= self._backend.depth:
                yield oldest()
        while in_flight:
            yield oldest()
        if error is not None:
            raise error

    def _render(self, labelled: Iterable[tuple[Frame, Labels]]) -> Iterator[_Result]:
        durations = self._durations["render"]
        for frame, small in labelled:
            begun_s = time.perf_counter()
            height, width = frame.image.shape[:2]
            labels = resize_labels(small, (height, width))
            rendered = self._overlay.draw(frame.image, labels) if self._draws else None
            durations.add(time.perf_counter() - begun_s)
            yield _Result(frame, labels, rendered)

    def _write(self, result: _Result) -> None:
        closed: SinkClosed | None = None
        for sink in self._sinks:
            begun_s = time.perf_counter()
            try:
                sink.write(result.frame, result.labels, result.rendered)
            except SinkClosed as error:
                closed = error  # the frame in hand still goes to the other sinks
                continue
            self._durations[sink.kind].add(time.perf_counter() - begun_s)
        if closed is None or len(self._sinks) > 1:
            self._count(result)
        if closed is not None:
            raise closed

    def _count(self, result: _Result) -> None:
        """One more frame has left through the last sink."""
        now = time.monotonic()
        self._first_s = self._first_s or now
        self._last_s = now
        self._left_at.append(now)
        self._latency.add(now - result.frame.captured_s)
        self._written += 1
        self._last = (result.frame, result.labels)

    def status(self) -> Status:
        """How the run stands now."""
        span_s = self._left_at[-1] - self._left_at[0] if len(self._left_at) > 1 else 0.0
        now = time.monotonic()
        frame, labels = self._last if self._last else (None, None)
        classes = len(self._backend.spec.classes)
        read = self._running[0][1] if self._running else None
        return Status(
            fps=(len(self._left_at) - 1) / span_s if span_s > 0 else 0.0,
            latency_ms=1e3 * (self._last_s - frame.captured_s) if frame else 0.0,
            frames_read=read.taken_in if read is not None else 0,
            frames_written=self._written,
            frames_dropped=read.dropped if read is not None else 0,
            frames_damaged=self._source.damaged,
            queues={name: len(channel) for name, channel, _ in self._running},
            shares=class_shares(labels, classes) if labels is not None else np.zeros(classes),
            pts_s=frame.pts_s if frame else 0.0,
            wall_s=now - self._started_s,
        )

    def report(self, ended: str) -> RunReport:
        """What the run did; call it after ``run`` has returned or raised, with the reason."""
        read = self._running[0][1] if self._running else None
        span_s = self._last_s - self._first_s
        latency = self._latency.summary()
        return RunReport(
            ended=ended,
            frames_read=read.taken_in if read is not None else 0,
            frames_segmented=self._segmented,
            frames_written=self._written,
            frames_dropped=read.dropped if read is not None else 0,
            frames_damaged=self._source.damaged,
            fps=round((self._written - 1) / span_s, 3) if span_s > 0 else 0.0,
            latency_ms={key: latency[f"{key}_ms"] for key in ("p50", "p95", "p99", "max")},
            stages={name: durations.summary() for name, durations in self._durations.items()},
            wall_s=round(time.monotonic() - self._started_s, 3),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every channel, then join every thread.

        The reading thread may sit in a blocking read that no one else may end; it is waited for shortly, ends by
        its own time-out, and as a daemon cannot keep the process.
        """
        self._source.stop()
        for _, channel, _ in self._running:
            channel.close()  # wakes both ends, so that no join can wait for a full channel
        for name, _, thread in self._running:
            thread.join(_JOIN_S if name == "read" else None)
