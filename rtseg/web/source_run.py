"""One source of the page: its run, which can be started anew with other options while viewers watch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from rtseg.app.cameras import Camera
from rtseg.app.drawing import open_overlay
from rtseg.app.many_streams import CameraStream
from rtseg.app.model_pool import ModelPool
from rtseg.app.prometheus import StreamMetrics
from rtseg.errors import OptionError, SinkError
from rtseg.events.event import Event
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.regions import Region
from rtseg.sinks.broadcast import BroadcastSink
from rtseg.sinks.events import EventsSink
from rtseg.sinks.recorder import RecorderSink
from rtseg.system.redact import find_secrets, redact
from rtseg.visualize.overlay import Overlay
from rtseg.web.recordings import name_recording
from rtseg.web.region_values import regions_to_json

__all__ = ["SourceRun"]

_FOR_EVER_S = 1e9
"""How long a source that is away is waited for."""
_JOIN_S = 15.0
"""How long the end of a run is waited for."""
_STILL_S = 2.0
"""After this time without a frame, the frame rate is 0."""
_HISTORY_STEP_S = 2.0
_HISTORY = 300
"""Entries of the history: ten minutes."""


class SourceRun:
    """Runs one source until it ends or ``stop`` is called. Any thread may call any method.

    Args:
        number: its place among the sources of the page.
        camera: what to run; its name is the ID of the source in addresses. Files are played at their own speed.
        pool: opens the models.
        metrics: gets the present run.
        max_side: see ``BroadcastSink``.
        recordings: folder of the recordings that viewers start.

    Raises:
        RtsegError: the source, the model or an output cannot be used.
    """

    def __init__(
        self,
        number: int,
        camera: Camera,
        pool: ModelPool,
        metrics: StreamMetrics,
        *,
        max_side: int,
        recordings: Path,
    ) -> None:
        self.number, self.id = number, camera.name
        options = camera.options
        part = options.part
        if part.max_downtime_s is None:
            part = replace(part, max_downtime_s=_FOR_EVER_S)
        drop = "always" if options.drop == "auto" else options.drop
        options = replace(options, part=part, drop=drop, show=bool(options.show))
        self._camera = Camera(camera.name, options)
        self._pool = pool
        self._metrics = metrics
        self._recordings = recordings
        self._secrets = find_secrets(str(options.source))
        self._lock = Lock()
        """Held while one run takes the place of another."""
        self.sink = BroadcastSink(f"page of {self.id}", max_side=max_side)
        self.recorder = RecorderSink(f"recording of {self.id}", self._draw)
        self._overlay: Overlay | None = None
        self.is_stopped = False
        """Whether no further frame will come, for those who wait for one."""
        self._history: deque[tuple[float, list[float]]] = deque(maxlen=_HISTORY)
        self._use(self._open(self._camera))

    def _open(self, camera: Camera) -> CameraStream:
        return CameraStream(camera, self._pool, [self.sink, self.recorder])

    def _use(self, stream: CameraStream) -> None:
        """Let viewers and recordings show what this run sends. The run before, if any, has ended."""
        options, spec = stream.camera.options, stream.run.spec
        self._overlay = open_overlay(options, spec)
        hides = bool(options.blur) or options.replace_background is not None
        only_image = replace(options, view="image", contours=False, legend=False)
        self.sink.clean = open_overlay(only_image, spec).draw if hides else None
        self._metrics.add(self.id, stream.run)
        self._stream = stream

    def _draw(self, image: Image, labels: Labels) -> Image:
        assert self._overlay is not None
        return self._overlay.draw(image, labels)

    @property
    def name(self) -> str:
        """For people; without passwords."""
        return self._stream.run.source.name

    @property
    def spec(self) -> ModelSpec:
        """Of the model that labels the frames."""
        return self._stream.run.spec

    @property
    def camera(self) -> Camera:
        """The present options, with those that were chosen while it runs."""
        return self._camera

    @property
    def outputs(self) -> list[str]:
        """What else the results go to."""
        return [sink.name for sink in self._stream.run.sinks if sink not in (self.sink, self.recorder)]

    def start(self) -> None:
        """Read the first frame soon."""
        self._stream.start()

    def stop(self) -> None:
        """End the run, for good."""
        self.is_stopped = True
        self._stream.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after ``stop``; close a run that was never started. Returns whether it has ended."""
        until_s = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):  # a change hangs
            return False
        try:
            has_ended = self._stream.join(max(0.0, until_s - time.monotonic()))
            self._metrics.remove(self.id)
        finally:
            self._lock.release()
        return has_ended

    @property
    def bug(self) -> BaseException | None:
        """The error that ended the run, if it is none of rtseg's."""
        return self._stream.bug

    def change(self, *, model: str | None = None, propagate: str | None = None) -> None:
        """Go on with another model or other propagation: a new run of the same source takes the place of this one.

        Raises:
            RtsegError: an option cannot be used. The source then goes on as before.
        """
        options = self._camera.options
        if any((options.output, options.masks, options.stats, options.polygons, options.events.destinations)):
            raise OptionError(f"{self.id} writes results of one model: start the server anew to change the options")
        if propagate is not None:
            options = replace(options, propagation=replace(options.propagation, propagate=propagate, target_fps=None))
        if model is not None:
            options = replace(options, model=model)
        with self._lock:
            self._replace(Camera(self.id, options))

    def _replace(self, camera: Camera) -> None:
        before, after = self._stream, self._open(camera)
        before.stop()
        if not before.join(_JOIN_S):  # it may still use the outputs
            after.join()
            raise SinkError(f"{self.id} did not end within {_JOIN_S:g} s: start the server anew")
        self._history.clear()
        after.run.regions.replace(before.run.regions.all)
        self._camera = camera
        self._use(after)
        after.start()
        if self.is_stopped:  # meanwhile; ``stop`` may have seen only the run before
            after.stop()

    def set_regions(self, regions: Sequence[Region]) -> None:
        """Use other regions from the next frame on.

        Raises:
            OptionError: one reaches beyond the frame, or two have the same name.
        """
        self._stream.run.regions.replace(regions)

    def start_recording(self) -> None:
        """Record the images with their labels drawn.

        Raises:
            RtsegError: the source has ended, a recording is going on, or the file cannot be written.
        """
        if self._stream.has_ended:
            raise SinkError(
                f"{self.id} has ended: choose its model or propagation, which opens it anew, and record then"
            )
        self.recorder.start(name_recording(self._recordings, self.id))

    @property
    def state(self) -> str:
        """What the source is doing: ``streaming``, ``reconnecting`` ...; with its reason."""
        stream = self._stream
        if stream.has_ended or stream.run.source.state:
            return redact(stream.status().state, *self._secrets)
        return "playing" if self.sink.newest is not None else "starting"

    @property
    def frame_age_s(self) -> float | None:
        """Seconds since the capture of the newest frame; None before the first one."""
        newest = self.sink.newest
        return None if newest is None else time.monotonic() - newest[0].captured_s

    def facts(self) -> dict[str, Any]:
        """What seldom changes, as JSON values."""
        spec = self.spec
        classes = [
            {"id": number, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for number, (name, color) in enumerate(zip(spec.classes, spec.palette, strict=True))
        ]
        return {"id": self.id, "number": self.number, "name": self.name, "model": spec.name, "classes": classes}

    def status(self) -> dict[str, Any]:
        """What changes, as JSON values."""
        run = self._stream.run
        status = run.status()
        shares = [round(float(share), 4) for share in status.shares]
        self._remember(shares)
        recording, age_s = self.recorder.path, self.frame_age_s
        is_moving = age_s is not None and age_s < _STILL_S
        return {
            "id": self.id,
            "state": self.state,
            "model": self.spec.name,
            "propagate": self._camera.options.propagation.propagate,
            "frame_age_s": _rounded(age_s),
            "fps": round(status.fps, 2) if is_moving else 0.0,
            "latency_ms": round(status.latency_ms, 1),
            "label_age_ms": _rounded(status.label_age_ms),
            "frames": status.frames_written,
            "dropped": status.frames_dropped,
            "damaged": status.frames_damaged,
            "pts_s": round(status.pts_s, 3),
            "shares": shares,
            "recording": None if recording is None else recording.name,
            "recording_problem": redact(self.recorder.problem, *self._secrets),
        }

    def details(self) -> dict[str, Any]:
        """Everything about the source, as JSON values."""
        stream = self._stream
        events = self.recent_events()
        shown = {str(event) for event in events.values()}
        notices = [line for line in dict.fromkeys((*stream.run.events, *stream.run.failures)) if line not in shown]
        now_s = time.monotonic()
        return {
            **self.facts(),
            "status": self.status(),
            "stages": stream.run.stages(),
            "regions": regions_to_json(stream.run.regions.all, self._size()),
            "notices": [redact(line, *self._secrets) for line in notices],
            "events": [
                each.to_json() | {"number": number, "snapshot": each.snapshot is not None}
                for number, each in events.items()
            ],
            "recordings": [path.name for path in self.recorder.finished],
            "history": [{"age_s": round(now_s - at_s, 1), "shares": shares} for at_s, shares in list(self._history)],
        }

    def class_at(self, x: float, y: float) -> dict[str, Any]:
        """The class at a place of the newest labels, as JSON values; ``name`` is None where there is no class.

        Args:
            x: 0 (left) to 1.
            y: 0 (top) to 1.
        """
        newest, classes = self.sink.newest, self.spec.classes
        if newest is None:
            return {"name": None}
        labels = newest[1]
        height, width = labels.shape
        number = int(labels[min(height - 1, int(y * height)), min(width - 1, int(x * width))])
        return {"name": classes[number] if number < len(classes) else None}

    def recent_events(self) -> dict[int, Event]:
        """The last events that began or ended by a rule, by their number, the oldest first."""
        sinks = [sink for sink in self._stream.run.sinks if isinstance(sink, EventsSink)]
        return {number: event for sink in sinks for number, event in list(sink.recent)}

    def _size(self) -> tuple[int, int] | None:
        """(H, W) of the frames; None before the first one."""
        newest = self.sink.newest
        return None if newest is None else (newest[1].shape[0], newest[1].shape[1])

    def _remember(self, shares: list[float]) -> None:
        """Add to the history, which every viewer and every request makes longer, but not too often."""
        now_s = time.monotonic()
        is_due = not self._history or now_s - self._history[-1][0] >= _HISTORY_STEP_S
        if is_due and any(shares):  # before the first labels, all are 0
            self._history.append((now_s, shares))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
