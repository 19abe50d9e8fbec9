"""One run of the whole pipeline (read, prepare, infer, render), and what each of its stages costs alone."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtseg.backends.base import Backend
from rtseg.bench.environment import cores, spread
from rtseg.errors import SourceError
from rtseg.frame import Frame, Labels
from rtseg.pipeline.report import RunReport, Status
from rtseg.pipeline.runner import Pipeline
from rtseg.preprocess import Prepare, override_steps, resize_labels
from rtseg.sinks.null import NullSink
from rtseg.sources.base import Source
from rtseg.visualize.overlay import Overlay

__all__ = [
    "Run",
    "bottleneck",
    "busy_shares",
    "cpu_costs",
    "limit_facts",
    "prepared",
    "row_facts",
    "run_pipeline",
    "warm_up",
]

_KEPT = 8
"""Frames at least that the later stages are measured on."""
_FIGURES = ("p50_ms", "p95_ms", "p99_ms", "mean_ms")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave."""

    report: RunReport
    queues: dict[str, list[int]]
    """Frames that waited behind each stage, at every look, four a second."""
    depth: int
    """Of the backend."""


class _Drawn(NullSink):
    """Keeps nothing, but has every image drawn."""

    needs_rendered = True


def warm_up(backend: Backend) -> None:
    """Have the runtime do whatever it does but once."""
    batch = np.zeros((1, *backend.spec.size, backend.spec.channels), np.uint8)
    for _ in range(2 * backend.depth + 2):
        backend.infer(batch)
    backend.reset()


def prepared(backend: Backend, steps: Sequence[str] | None) -> Prepare:
    """What makes the input of ``backend``: by ``steps`` in place of those that the model file names, unless None.

    Raises:
        ModelError: a step is not known.
        OptionError: a background image cannot be read.
    """
    return Prepare(override_steps(backend.spec, steps))


def run_pipeline(source: Source, backend: Backend, prepare: Prepare | None = None, *, drop: str = "never") -> Run:
    """Send every frame of ``source`` through, drawn and thrown away.

    Args:
        source: read to its end.
        backend: with nothing in flight.
        prepare: of ``prepared``; as the model file says unless given.
        drop: see ``Pipeline``.

    Raises:
        RtsegError: of the source or the backend; also where the source gave fewer than two frames.
    """
    backend.reset()
    looks: dict[str, list[int]] = {}

    def look(status: Status) -> None:
        for stage, waiting in status.queues.items():
            looks.setdefault(stage, []).append(waiting)

    with Pipeline(source, backend, [_Drawn()], Overlay(backend.spec), drop=drop, prepare=prepare) as pipeline:
        ended = pipeline.run(look)
    report = pipeline.report(ended)
    if report.frames_written < 2:
        raise SourceError(f"{source.name} gave {report.frames_written} frames; a rate needs at least 2: give another")
    return Run(report, looks, backend.depth)


def busy_shares(run: Run) -> dict[str, float]:
    """Of the time between two frames, how much each stage needs; the work on ``depth`` batches at once counts once.

    1, or nearly, says that the others wait for this stage. Of a reader that works ahead only the time counts for which
    the pipeline waits for it.
    """
    shares = {}
    for stage, figures in run.report.stages.items():
        share = figures["mean_ms"] * run.report.fps / 1e3
        # The first batches are not among those whose rate is taken: a short run may come to more than all of the time.
        shares[stage] = min(1.0, share / run.depth if stage == "infer" else share)
    return shares


def bottleneck(shares: Mapping[str, float]) -> str:
    """The stage that is busy for most of the time."""
    return max(shares, key=lambda stage: shares[stage])


def row_facts(runs: Sequence[Run]) -> dict[str, Any]:
    """The rounds of one row of the result: medians with quartiles, medians within stages.

    ``frames`` and ``dropped`` are those of all rounds together.
    """
    shares = {stage: float(np.median([busy_shares(run)[stage] for run in runs])) for stage in runs[0].report.stages}
    return {
        "fps": spread([run.report.fps for run in runs]),
        "latency_ms": {key: spread([run.report.latency_ms[key] for run in runs]) for key in ("p50", "p95", "p99")},
        "stages": {
            stage: {key: float(np.median([run.report.stages[stage][key] for run in runs])) for key in _FIGURES}
            for stage in runs[0].report.stages
        },
        "queues": _queues(runs),
        "frames": sum(run.report.frames_written for run in runs),
        "dropped": sum(run.report.frames_dropped for run in runs),
        "busy": shares,
        "bottleneck": bottleneck(shares),
    }


def _queues(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    looks: dict[str, list[int]] = {}
    for run in runs:
        for stage, waiting in run.queues.items():
            looks.setdefault(stage, []).extend(waiting)
    return {stage: {"mean": float(np.mean(waiting)), "max": max(waiting)} for stage, waiting in looks.items()}


def cpu_costs(open_source: Callable[[], Source], backend: Backend, prepare: Prepare | None = None) -> dict[str, float]:
    """CPU seconds that one frame costs in each stage alone, all threads of the process counted.

    Keys are ``read``, ``prepare``, ``infer`` and ``render``. What a GPU does is not among them.

    Args:
        open_source: gives the source, unread; it is read once.
        backend: with nothing in flight.
        prepare: as ``run_pipeline`` takes it.
    """
    costs: dict[str, float] = {}
    source = open_source()
    source.set_output_format(backend.spec.channels, backend.spec.size)
    frames: list[Frame] = []
    count = 0
    with _counted(costs, "read"), closing(iter(source)) as all_frames:  # type: ignore[type-var]
        for frame in all_frames:
            count += 1
            if len(frames) < _KEPT:
                frames.append(frame)
    costs["read"] /= count
    # Short stages are repeated: the clock of a process is coarse.
    repeated = list(itertools.islice(itertools.cycle(frames), max(_KEPT, min(count, 4 * _KEPT))))
    prepare = prepare or Prepare(backend.spec)
    with _counted(costs, "prepare", len(repeated)):
        batches = [prepare(frame.image)[None] for frame in repeated]
    backend.reset()
    with _counted(costs, "infer", len(repeated)):
        labels = list(_labelled(backend, batches))
    overlay = Overlay(backend.spec)
    with _counted(costs, "render", len(repeated)):
        for frame, small in zip(repeated, labels, strict=True):
            overlay.draw(frame.image, resize_labels(small, frame.image.shape[:2]))
    return costs


def limit_facts(runs: Sequence[Run], costs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """CPU milliseconds of a frame in each stage alone, the rate that they allow, and how much of it was reached.

    The limit is cores / their sum: all cores do nothing but the stages' own work.

    Args:
        runs: the rounds of one row.
        costs: of ``cpu_costs``, from the same rounds, so that a slower minute of the machine meets both; none where
            the processor is not what limits the row.
    """
    if not costs:
        return {"cpu_ms": None, "limit_fps": None, "share_of_limit": None}
    alone = {stage: float(np.median([cost[stage] for cost in costs])) for stage in costs[0]}
    limit = cores() / sum(alone.values())
    return {
        "cpu_ms": {stage: 1e3 * seconds for stage, seconds in alone.items()},
        "limit_fps": limit,
        "share_of_limit": float(np.median([run.report.fps for run in runs])) / limit,
    }


@contextmanager
def _counted(costs: dict[str, float], stage: str, frames: int = 1) -> Iterator[None]:
    begun_s = time.process_time()
    yield
    costs[stage] = (time.process_time() - begun_s) / frames


def _labelled(backend: Backend, batches: Sequence[Any]) -> Iterator[Labels]:
    """Labels of each batch, in order, with ``depth`` in flight."""
    in_flight: deque[Any] = deque()
    for batch in batches:
        in_flight.append(backend.submit(batch))
        if len(in_flight) >= backend.depth:
            yield backend.wait(in_flight.popleft())[0].copy()
    while in_flight:
        yield backend.wait(in_flight.popleft())[0].copy()
