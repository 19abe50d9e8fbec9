"""Run the whole pipeline (read, prepare, infer, render) once, and measure what each stage costs alone."""

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
    "make_prepare",
    "row_facts",
    "run_pipeline",
    "warm_up",
]

_MIN_FRAMES = 8
"""The stages after reading are measured on at least this many frames."""
_STATISTICS = ("p50_ms", "p95_ms", "p99_ms", "mean_ms")


@dataclass(frozen=True, slots=True)
class Run:
    """The measurements of one run."""

    report: RunReport
    queues: dict[str, list[int]]
    """Frames that waited behind each stage, sampled four times a second."""
    depth: int
    """How many batches the backend had in flight."""


class _RenderSink(NullSink):
    """Discards all frames, but requires them to be rendered."""

    needs_rendered = True


def warm_up(backend: Backend) -> None:
    """Run the backend a few times, so that the runtime does its one-time work."""
    batch = np.zeros((1, *backend.spec.size, backend.spec.channels), np.uint8)
    for _ in range(2 * backend.depth + 2):
        backend.infer(batch)
    backend.reset()


def make_prepare(backend: Backend, steps: Sequence[str] | None) -> Prepare:
    """Return the preprocessing of ``backend``, with ``steps`` instead of those of the model file unless None.

    Raises:
        ModelError: a step is unknown.
        OptionError: a background image cannot be read.
    """
    return Prepare(override_steps(backend.spec, steps))


def run_pipeline(source: Source, backend: Backend, prepare: Prepare | None = None, *, drop: str = "never") -> Run:
    """Run every frame of ``source`` through the pipeline, render it, and discard it.

    Args:
        source: read to its end.
        backend: with nothing in flight.
        prepare: from ``make_prepare``. Default: as in the model file.
        drop: see ``Pipeline``.

    Raises:
        RtsegError: the source or the backend failed, or the source gave fewer than two frames.
    """
    backend.reset()
    queues: dict[str, list[int]] = {}

    def on_progress(status: Status) -> None:
        for stage, waiting in status.queues.items():
            queues.setdefault(stage, []).append(waiting)

    with Pipeline(source, backend, [_RenderSink()], Overlay(backend.spec), drop=drop, prepare=prepare) as pipeline:
        ended = pipeline.run(on_progress)
    report = pipeline.report(ended)
    if report.frames_written < 2:
        raise SourceError(f"{source.name} gave {report.frames_written} frames: a rate needs at least 2, give another")
    return Run(report, queues, backend.depth)


def busy_shares(run: Run) -> dict[str, float]:
    """Return the share of the time between two frames that each stage works; parallel batches count once.

    A share near 1 means that the other stages wait for this one. For a reader that works ahead, only the time
    counts for which the pipeline waits for it.
    """
    shares = {}
    for stage, figures in run.report.stages.items():
        share = figures["mean_ms"] * run.report.fps / 1e3
        # The rate leaves out the first batches, so the share can exceed 1 in a short run.
        shares[stage] = min(1.0, share / run.depth if stage == "infer" else share)
    return shares


def bottleneck(shares: Mapping[str, float]) -> str:
    """Return the stage with the largest share."""
    return max(shares, key=lambda stage: shares[stage])


def row_facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Summarize the rounds of one row of the result: medians with quartiles, and medians per stage.

    ``frames`` and ``dropped`` are sums over all rounds.
    """
    shares = {stage: float(np.median([busy_shares(run)[stage] for run in runs])) for stage in runs[0].report.stages}
    return {
        "fps": spread([run.report.fps for run in runs]),
        "latency_ms": {key: spread([run.report.latency_ms[key] for run in runs]) for key in ("p50", "p95", "p99")},
        "stages": {
            stage: {key: float(np.median([run.report.stages[stage][key] for run in runs])) for key in _STATISTICS}
            for stage in runs[0].report.stages
        },
        "queues": _queues(runs),
        "frames": sum(run.report.frames_written for run in runs),
        "dropped": sum(run.report.frames_dropped for run in runs),
        "busy": shares,
        "bottleneck": bottleneck(shares),
    }


def _queues(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    queues: dict[str, list[int]] = {}
    for run in runs:
        for stage, waiting in run.queues.items():
            queues.setdefault(stage, []).extend(waiting)
    return {stage: {"mean": float(np.mean(waiting)), "max": max(waiting)} for stage, waiting in queues.items()}


def cpu_costs(open_source: Callable[[], Source], backend: Backend, prepare: Prepare | None = None) -> dict[str, float]:
    """Measure the CPU seconds per frame of each stage alone, over all threads of the process.

    Keys are ``read``, ``prepare``, ``infer`` and ``render``. The work of a GPU is not included.

    Args:
        open_source: returns a new source, which is read once.
        backend: with nothing in flight.
        prepare: see ``run_pipeline``.
    """
    costs: dict[str, float] = {}
    source = open_source()
    source.set_output_format(backend.spec.channels, backend.spec.size)
    frames: list[Frame] = []
    count = 0
    with _measure_cpu(costs, "read"), closing(iter(source)) as all_frames:  # type: ignore[type-var]
        for frame in all_frames:
            count += 1
            if len(frames) < _MIN_FRAMES:
                frames.append(frame)
    costs["read"] /= count
    # Repeat the frames, because the process clock is too coarse for short stages.
    repeated = list(itertools.islice(itertools.cycle(frames), max(_MIN_FRAMES, min(count, 4 * _MIN_FRAMES))))
    prepare = prepare or Prepare(backend.spec)
    with _measure_cpu(costs, "prepare", len(repeated)):
        batches = [prepare(frame.image)[None] for frame in repeated]
    backend.reset()
    with _measure_cpu(costs, "infer", len(repeated)):
        labels = list(_infer_all(backend, batches))
    overlay = Overlay(backend.spec)
    with _measure_cpu(costs, "render", len(repeated)):
        for frame, small in zip(repeated, labels, strict=True):
            overlay.draw(frame.image, resize_labels(small, frame.image.shape[:2]))
    return costs


def limit_facts(runs: Sequence[Run], costs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the CPU milliseconds per frame of each stage alone, the rate limit they imply, and its reached share.

    The limit is cores / (sum of the stages): all cores do nothing but the work of the stages.

    Args:
        runs: the rounds of one row.
        costs: from ``cpu_costs`` in the same rounds, so that a slow phase of the machine affects both. Empty if the
            processor does not limit the row.
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
def _measure_cpu(costs: dict[str, float], stage: str, frames: int = 1) -> Iterator[None]:
    started_s = time.process_time()
    yield
    costs[stage] = (time.process_time() - started_s) / frames


def _infer_all(backend: Backend, batches: Sequence[Any]) -> Iterator[Labels]:
    """Yield the labels of every batch in order, with ``depth`` batches in flight."""
    in_flight: deque[Any] = deque()
    for batch in batches:
        in_flight.append(backend.submit(batch))
        if len(in_flight) >= backend.depth:
            yield backend.wait(in_flight.popleft())[0].copy()
    while in_flight:
        yield backend.wait(in_flight.popleft())[0].copy()
