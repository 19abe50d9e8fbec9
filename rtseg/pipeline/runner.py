"""Runs a source through a backend into sinks. The only module that starts the threads of a run.

    read ──► prepare ──► infer ──► render ──► sinks
    (one thread for each stage)               (the thread of the caller: windows need the main one)

Where labels are carried from frame to frame, another stage takes the place of ``infer``, see
``rtseg.pipeline.propagation_stages``. For a live source it gives each frame the newest labels at once:

    prepare ──► carry ──► render
                │  ▲
       requests ▼  │ answers
                infer

A bounded channel connects each stage with the next. For a file, a full channel makes the earlier stage wait. For a
live source, the channels after ``read`` and ``prepare`` drop their oldest frame and count it, so that the network gets
the newest frame: one that waited in each channel would be two runs of the network older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from rtseg.backends.base import Backend
from rtseg.errors import BackendError, OptionError, SinkClosed
from rtseg.frame import Frame, Labels
from rtseg.pipeline.channel import Channel, ChannelEnded, NothingCame
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.key_interval import KeyInterval
from rtseg.pipeline.lag import LagMeter
from rtseg.pipeline.options import PropagationOptions
from rtseg.pipeline.propagation import Propagator
from rtseg.pipeline.propagation_stages import (
    PropagationCounters,
    Request,
    answer_requests,
    carry_newest_labels,
    infer_key_frames,
    live_or_recorded,
)
from rtseg.pipeline.report import RunCounters, RunReport, SourceCounts, Status
from rtseg.pipeline.stages import Batch, PlaybackClock, Result, infer, prepare, read, render
from rtseg.pipeline.writing import SinkWriter
from rtseg.preprocess import Prepare
from rtseg.regions.masks import Regions
from rtseg.sinks.base import Sink
from rtseg.sources.base import Source
from rtseg.visualize.effects import Effect
from rtseg.visualize.overlay import Overlay

__all__ = ["DROP_MODES", "Pipeline"]

T = TypeVar("T")

DROP_MODES = ("auto", "always", "never")

_CAPACITY = 3
"""Of a channel: large enough to even out stages of varying speed, small enough to stay in the caches."""
_LIVE_CAPACITY = 1
"""Of a channel of a live run: a frame that waits gets old."""
_PROGRESS_S = 0.25
"""Time between two calls of ``on_progress``."""
_DRAIN_S = 0.8
"""How long frames in flight may still come out after ``stop``."""
_JOIN_S = 0.5
"""How long leaving waits for the reading thread."""
_JOIN_STEP_S = 0.1
_LEAVE_S = 10.0
"""How long leaving waits for all other threads, at most; see ``Backend.patience_s``."""


class Pipeline:
    """One run of one source through one backend into sinks. Use it once, in ``with``; any thread may call ``stop``.

    The caller opens and closes the backend and the sinks; the reading thread opens and closes the source.

    Args:
        source: where frames come from.
        backend: what labels them.
        sinks: where results go, in this order.
        overlay: draws the images; used if any sink needs them.
        drop: ``auto`` drops the oldest frames of live sources only; ``always`` also plays files at their own speed
            and drops frames as if they were live; ``never`` drops none.
        prepare: makes the model's input; by default as the model file says.
        propagation: on which frames the network runs; by default on all of them.
        regions: limit what is labelled; they may be replaced during the run.
        effects: change the image of each frame, in this order, before any sink gets it.
        first_frame: position of the first frame in its video, where the source is a part of it; see ``Propagator``.

    Raises:
        OptionError: ``drop`` is unknown, the source cannot deliver images with the channels that the model needs, or
            a frame rate is asked for where the source sets it.
        ModelError: a preprocessing step of the model is unknown.
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
        propagation: PropagationOptions | None = None,
        regions: Regions | None = None,
        effects: Sequence[Effect] = (),
        first_frame: int | None = None,
    ) -> None:
        if drop not in DROP_MODES:
            raise OptionError(f"--drop must be one of {', '.join(DROP_MODES)}, got {drop!r}")
        self._propagation = propagation or PropagationOptions("off")
        self._first_frame = first_frame
        if self._propagation.target_fps is not None and (source.live or drop == "always"):
            raise OptionError(
                f"--target-fps is for files: {source.name} sets its own frame rate, leave --target-fps out"
            )
        source.set_output_format(backend.spec.channels, backend.spec.size)
        source.may_drop = drop != "never"
        self._source = source
        self._backend = backend
        self._sinks = list(sinks)
        self._overlay = overlay if any(sink.needs_rendered for sink in self._sinks) else None
        self._drop = drop
        self._regions = regions or Regions()
        self._effects = effects
        self._prepare_image = prepare or Prepare(backend.spec)
        self._stages: list[tuple[str, Channel[Any], Thread]] = []
        self._channels: list[Channel[Any]] = []
        """Further channels, which no stage of their own fills."""
        self._stop = Event()
        self._stopped_s = float("inf")
        self._propagation_counters: PropagationCounters | None = None
        names = ("read", "prepare", "infer", "render", *(sink.kind for sink in self._sinks))
        self._counters = RunCounters(names, len(backend.spec.classes))
        self._writer = SinkWriter(self._sinks, self._counters)
        self._lag = LagMeter()
        self._lag_notices: list[str] = []
        self.backend_hangs = False
        """Whether a thread was still inside the backend when the ``with`` block was left: do not close it then."""

    @property
    def failures(self) -> list[str]:
        """Why sinks ended before the run, one line each. The other sinks went on."""
        return list(self._writer.failures)

    @property
    def failed_sinks(self) -> list[Sink]:
        """The sinks that ended before the run."""
        return list(self._writer.failed)

    @property
    def notices(self) -> list[str]:
        """What to tell the user about the run so far: lines; they may become more while it goes on."""
        return [*self._writer.failures, *self._lag_notices]

    def stop(self) -> None:
        """Let the frames in flight come out, then end. Safe in a signal handler."""
        if not self._stop.is_set():
            self._stopped_s = time.monotonic()
            self._stop.set()
            self._source.stop()

    def run(self, on_progress: Callable[[Status], None] | None = None) -> str:
        """Send every frame through the stages; return why the run ended.

        ``on_progress`` is called on this thread about four times a second, even while no frame comes.

        A sink that fails ends alone while others go on; see ``failures``.

        Raises:
            RtsegError: the source, the backend or the last sink failed. All earlier frames have been written.
        """
        self._counters.start()
        results = self._start_stages()
        notified_s = time.monotonic()
        while True:
            try:
                result = results.get(_PROGRESS_S)
            except ChannelEnded:
                break
            except NothingCame:
                pass  # on_progress must see that, too
            else:
                try:
                    self._writer.write(result)
                except SinkClosed:
                    self.stop()
                    return "window closed"
                self._notice_lag(result.frame)
            now_s = time.monotonic()
            if now_s > self._stopped_s + _DRAIN_S:
                break
            if now_s - notified_s >= _PROGRESS_S:
                self._writer.idle()
                if on_progress is not None:
                    on_progress(self.status())
                notified_s = now_s
        return "stopped" if self._stop.is_set() else "end of source"

    def status(self) -> Status:
        """The current state of the run."""
        age_s = self._propagation_counters.last_age_s if self._propagation_counters else None
        queues = {name: len(channel) for name, channel, _ in self._stages}
        return self._counters.status(self._source_counts(), queues, None if age_s is None else 1e3 * age_s)

    def stages(self) -> dict[str, dict[str, float]]:
        """How long the stages and sinks have taken for a frame so far; see ``RunReport.stages``."""
        return {name: durations.summary() for name, durations in dict(self._counters.durations).items()}

    @property
    def durations(self) -> dict[str, Durations]:
        """The time that each stage and sink worked on the frames so far."""
        return dict(self._counters.durations)

    def report(self, ended: str) -> RunReport:
        """What the run did. Call it after ``run`` has returned or raised, with the reason."""
        counters = self._propagation_counters
        return self._counters.report(ended, self._source_counts(), counters.summary() if counters else None)

    def _source_counts(self) -> SourceCounts:
        if not self._stages:
            return SourceCounts(0, 0, self._source.damaged)
        frames = self._stages[0][1]
        skipped = self._source.dropped
        dropped = skipped + sum(channel.dropped for _, channel, _ in self._stages)
        return SourceCounts(frames.put_count + skipped, dropped, self._source.damaged)

    def _start_stages(self) -> Channel[Result]:
        durations = self._counters.durations
        clock = PlaybackClock(self._stop) if self._drop == "always" else None
        frames = self._start("read", read(self._source, durations["read"], clock), drop_oldest=self._drops)
        batches = self._start(
            "prepare", prepare(frames, self._prepare_image, durations["prepare"]), drop_oldest=self._drops
        )
        labelled = self._start_inference(batches)
        results = render(labelled, self._overlay, durations["render"], self._regions, self._effects)
        return self._start("render", results)

    def _start_inference(self, batches: Channel[Batch]) -> Channel[tuple[Frame, Labels]]:
        options = self._propagation
        if options.propagate != "auto":
            return self._start("infer", self._infer(batches))
        requests: Channel[Request] = Channel(1)
        self._channels.append(requests)
        answers = self._start("infer", answer_requests(requests, self._backend, self._counters.durations["infer"]))

        def carry(batches: Iterable[Batch]) -> Iterator[tuple[Frame, Labels]]:
            propagator = Propagator(smooth=options.smooth, mark=options.mark, late=True)
            counters = self._count_propagation()
            size = self._backend.spec.size
            return carry_newest_labels(batches, requests, answers, propagator, self._counters.durations, counters, size)

        return self._start("carry", live_or_recorded(batches, self._drops, carry, self._infer))

    def _infer(self, batches: Iterable[Batch]) -> Iterator[tuple[Frame, Labels]]:
        """Label frames in order: all of them by the network, or those between key frames by carrying labels."""
        options, durations = self._propagation, self._counters.durations
        if options.interval is None and options.target_fps is None and not options.smooth:
            return infer(batches, self._backend, durations["infer"])
        interval = KeyInterval(options.target_fps) if options.target_fps is not None else None
        propagator = Propagator(
            options.interval or 1, smooth=options.smooth, mark=options.mark, first_frame=self._first_frame
        )
        counters = self._count_propagation()
        return infer_key_frames(batches, self._backend, propagator, durations, counters, interval)

    def _count_propagation(self) -> PropagationCounters:
        self._counters.durations |= {"flow": Durations(), "carry": Durations()}
        self._propagation_counters = PropagationCounters()
        return self._propagation_counters

    def _drops(self) -> bool:
        return self._drop == "always" or (self._drop == "auto" and self._source.live)

    def _start(
        self,
        name: str,
        items: Iterable[T],
        *,
        drop_oldest: Callable[[], bool] = lambda: False,
    ) -> Channel[T]:
        """Iterate ``items`` on a new thread; the returned channel delivers them in order."""
        channel: Channel[T] = Channel(_LIVE_CAPACITY if self._drops() else _CAPACITY)
        thread = Thread(
            target=channel.fill,
            args=(items,),
            kwargs={"drop_oldest": drop_oldest},
            name=f"rtseg-{name}",
            daemon=True,  # a read that blocks in C must not keep the process alive
        )
        self._stages.append((name, channel, thread))
        thread.start()
        return channel

    def _notice_lag(self, frame: Frame) -> None:
        if self._source.live and self._lag.add(frame):
            advice = "choose a smaller stream or a faster model"
            if self._drop == "never":
                advice = "leave out --drop never, so that old frames are dropped"
            self._lag_notices.append(
                f"{self._source.name}: the images are now {self._lag.lag_s:.0f} s old, "
                f"because frames come faster than they are processed: {advice}"
            )

    def _join(self, thread: Thread, longest_s: float) -> float:
        """Wait for ``thread``; returns how long, without the time for which this process was suspended."""
        steps = 0
        while thread.is_alive() and steps * _JOIN_STEP_S < longest_s:
            self._backend.stop_waiting()
            thread.join(_JOIN_STEP_S)
            steps += 1
        return steps * _JOIN_STEP_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every channel, then join every thread.

        The reading thread may be blocked in a read that no other thread can end. It is joined for a short time only:
        it ends with its own timeout, and as a daemon it does not keep the process alive.

        Raises:
            BackendError: the backend does not answer, and the block raised no other error.
        """
        self._source.stop()
        for channel in (*self._channels, *(channel for _, channel, _ in self._stages)):
            channel.close()  # wakes both ends, so that no join waits for a full channel
        left_s = _LEAVE_S
        for name, _, thread in self._stages:
            uses_backend = name in ("infer", "carry")
            longest_s = _JOIN_S if name == "read" else self._backend.patience_s() if uses_backend else _LEAVE_S
            left_s -= self._join(thread, min(longest_s, left_s))
            self.backend_hangs |= uses_backend and thread.is_alive()
        if self.backend_hangs and kind is None:
            raise BackendError(
                f"the backend {self._backend.name} does not answer: try another --backend; what was written is kept"
            )
