"""What a run reports: a status while it runs, a report once it has ended, and the counters behind both."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Frame, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.pipeline.durations import Durations

__all__ = ["RunCounters", "RunReport", "SourceCounts", "Status"]

_RECENT_FRAMES = 60
"""``Status.fps`` is the rate over this many frames."""


@dataclass(frozen=True, slots=True)
class Status:
    """The current state of a run, for a progress display. Cheap enough to compute a few times a second."""

    fps: float
    """Over the last frames."""
    latency_ms: float
    """The age of the last frame: from its capture (``Frame.captured_s``) until the last sink has written it."""
    frames_read: int
    frames_written: int
    frames_dropped: int
    frames_damaged: int
    queues: dict[str, int]
    """Frames waiting in the channel after each stage."""
    shares: NDArray[np.float64]
    """Share of pixels of each class in the last frame, in [0, 1]."""
    pts_s: float
    """Time of the last frame in the source, in seconds."""
    wall_s: float
    label_age_ms: float | None = None
    """Time from the frame that the network saw to the last frame, which has its labels; None without propagation, and
    before the first labels."""


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
    """The age of the frames, from their capture to the end of the last sink: p50, p95, p99, max."""
    stages: dict[str, dict[str, float]]
    """For each stage and sink: mean_ms, p50_ms, p95_ms, p99_ms, max_ms of the work on one frame, without waiting.
    ``infer`` runs from submit to labels, with the earlier batches still in flight."""
    wall_s: float
    propagation: dict[str, Any] | None = None
    """Where labels were carried to frames without inference: ``key_frames`` by reason, ``label_age_ms``, and
    ``frames_without_labels``."""


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """How many frames of the source were read, dropped before the next stage, and damaged."""

    read: int
    dropped: int
    damaged: int


class RunCounters:
    """Counts the frames of one run and measures its stages. Each counter is written by one thread only.

    Args:
        stages: names of the stages and sinks.
        classes: how many classes the model has.
    """

    def __init__(self, stages: Iterable[str], classes: int) -> None:
        self.durations = {name: Durations() for name in stages}
        self._classes = classes
        self._latency = Durations()
        self._recent_s: deque[float] = deque(maxlen=_RECENT_FRAMES)
        self._first_s = self._last_s = self._started_s = 0.0
        self._last: tuple[Frame, Labels] | None = None

    def start(self) -> None:
        """Start the clock of the run."""
        self._started_s = time.monotonic()

    def count_written(self, frame: Frame, labels: Labels) -> None:
        """Count a frame that has left the last sink."""
        now_s = time.monotonic()
        self._first_s = self._first_s or now_s
        self._last_s = now_s
        self._recent_s.append(now_s)
        self._latency.add(now_s - frame.captured_s)
        self._last = frame, labels

    def status(self, source: SourceCounts, queues: dict[str, int], label_age_ms: float | None = None) -> Status:
        """The current state of the run."""
        span_s = self._recent_s[-1] - self._recent_s[0] if len(self._recent_s) > 1 else 0.0
        frame, labels = self._last if self._last else (None, None)
        return Status(
            fps=(len(self._recent_s) - 1) / span_s if span_s > 0 else 0.0,
            latency_ms=1e3 * (self._last_s - frame.captured_s) if frame else 0.0,
            frames_read=source.read,
            frames_written=self._latency.count,
            frames_dropped=source.dropped,
            frames_damaged=source.damaged,
            queues=queues,
            shares=class_shares(labels, self._classes) if labels is not None else np.zeros(self._classes),
            pts_s=frame.pts_s if frame else 0.0,
            wall_s=time.monotonic() - self._started_s,
            label_age_ms=label_age_ms,
        )

    def report(self, ended: str, source: SourceCounts, propagation: dict[str, Any] | None = None) -> RunReport:
        """What the run did; call it at the end."""
        span_s = self._last_s - self._first_s
        written = self._latency.count
        latency = self._latency.summary()
        return RunReport(
            ended=ended,
            frames_read=source.read,
            frames_segmented=self.durations["infer"].count,
            frames_written=written,
            frames_dropped=source.dropped,
            frames_damaged=source.damaged,
            fps=round((written - 1) / span_s, 3) if span_s > 0 else 0.0,
            latency_ms={key: latency[f"{key}_ms"] for key in ("p50", "p95", "p99", "max")},
            stages={name: durations.summary() for name, durations in self.durations.items()},
            wall_s=round(time.monotonic() - self._started_s, 3),
            propagation=propagation,
        )
