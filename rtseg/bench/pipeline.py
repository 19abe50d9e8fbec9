"""Run a clip through several backends, at full speed and as a live source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.bench.interleave import ProgressCallback, ignore_progress, run_interleaved
from rtseg.bench.stage_costs import Run, cpu_costs, limit_facts, make_prepare, row_facts, run_pipeline, warm_up
from rtseg.errors import OptionError
from rtseg.preprocess import Prepare, override_steps, preprocess_facts
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.system.redact import redact
from rtseg.weights import DEFAULT_MODEL

__all__ = ["MODES", "ClipOptions", "measure_clip"]

MODES = {"file": ("never", "throughput"), "live": ("always", "latency")}
"""Mode -> ``drop`` of the pipeline and ``hint`` of the backend. ``file``: every frame at full speed. ``live``: at the
clip's frame rate, the oldest frame is dropped if the pipeline falls behind."""
_ALONE = "alone"
"""Instead of a mode: the cost of each stage by itself."""


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """Options of ``rtseg bench --pipeline``.

    Raises:
        OptionError: a value is out of range, or a backend is given twice.
    """

    source: str = "demo"
    backends: tuple[str, ...] = ("auto",)
    model: str = DEFAULT_MODEL
    precision: str = "auto"
    device: str = "auto"
    model_size: tuple[int, int] | None = None
    """(H, W) of the model input, in pixels. Default: that of the model file."""
    preprocess: tuple[str, ...] | None = None
    """Preprocessing steps instead of those of the model file; see ``rtseg.preprocess``."""
    frames: int = 200
    """Frames per round; a shorter clip is repeated."""
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise OptionError(f"--frames must be at least 2 to measure a rate, got {self.frames}")
        if self.rounds < 1:
            raise OptionError(f"--rounds must be at least 1, got {self.rounds}")
        if len(set(self.backends)) < len(self.backends) or not all(self.backends):
            raise OptionError(f"--backends must be different names, separated by commas: {','.join(self.backends)}")


def measure_clip(options: ClipOptions, on_progress: ProgressCallback = ignore_progress) -> dict[str, Any]:
    """Run the clip through every backend in both modes, in turn; return the sections of a result.

    Raises:
        RtsegError: the clip, the model or a backend cannot be used.
    """

    def clip() -> Source:
        return open_source(options.source, SourceOptions(max_frames=options.frames, loop=True))

    if clip().live:
        raise OptionError(f"--source {redact(options.source)} is live: give a clip, so that every round is the same")
    with ExitStack() as opened:
        backends: dict[tuple[str, str], Backend] = {}
        prepares: dict[tuple[str, str], Prepare] = {}
        for name in options.backends:
            for mode, (_, hint) in MODES.items():
                backend = opened.enter_context(_open(options, name, hint))
                prepares[name, mode] = make_prepare(backend, options.preprocess)
                warm_up(backend)
                backends[name, mode] = backend
        runs: dict[tuple[str, str], Callable[[], Any]] = {
            (name, mode): partial(_run, clip, backend, prepares[name, mode], MODES[mode][0])
            for (name, mode), backend in backends.items()
        }
        for name in options.backends:
            key = name, "file"  # a live run is limited by the clip's frame rate, not by the processor
            if backends[key].device.startswith("CPU"):
                runs[name, _ALONE] = partial(cpu_costs, clip, backends[key], prepares[key])
        results, complete = run_interleaved(runs, options.rounds, on_progress)
        rows = [
            _row(options, (name, mode), rounds, backends[name, mode])
            | limit_facts(rounds, results.get((name, _ALONE), []) if mode == "file" else [])
            for (name, mode), rounds in results.items()
            if mode != _ALONE
        ]
    return {"pipeline": rows, "complete": complete}


def _run(clip: Callable[[], Source], backend: Backend, prepare: Prepare, drop: str) -> Run:
    return run_pipeline(clip(), backend, prepare, drop=drop)


def _open(options: ClipOptions, name: str, hint: str) -> Backend:
    return open_backend(
        name,
        options.model,
        size=options.model_size,
        precision=options.precision,
        device=options.device,
        hint=hint,
    )


def _row(options: ClipOptions, key: tuple[str, str], runs: list[Run], backend: Backend) -> dict[str, Any]:
    return {
        "source": redact(options.source),
        "storage": None,
        "state": key[1],
        "simulated": False,
        "decoder": None,
        "in_memory": None,
        "as_said": True,
        "asked_for": key[0],
        **backend.facts(),
        **preprocess_facts(backend.spec, override_steps(backend.spec, options.preprocess)),
        **row_facts(runs),
    }
