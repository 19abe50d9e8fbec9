"""A clip through several backends, as fast as they go and as a camera would give it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.bench import interleave as _turns
from rtseg.bench.stage_costs import Run, cpu_costs, limit_facts, prepared, row_facts, run_pipeline, warm_up
from rtseg.errors import OptionError
from rtseg.preprocess import Prepare, override_steps, preprocess_facts
from rtseg.sources import open_source
from rtseg.sources.base import Source, SourceOptions
from rtseg.system.redact import redact
from rtseg.weights import DEFAULT_MODEL

__all__ = ["MODES", "ClipOptions", "measure_clip"]

MODES = {"file": ("never", "throughput"), "live": ("always", "latency")}
"""``file``: every frame, as fast as it goes. ``live``: at the clip's own speed, the oldest dropped. -> ``drop`` of the
pipeline and ``hint`` of the backend."""
_ALONE = "alone"
"""In the place of a mode: what each stage costs by itself."""


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """What is run.

    Raises:
        OptionError: a value is out of range, or a backend is named twice.
    """

    source: str = "demo"
    backends: tuple[str, ...] = ("auto",)
    model: str = DEFAULT_MODEL
    precision: str = "auto"
    device: str = "auto"
    model_size: tuple[int, int] | None = None
    """(H, W) of the model's input, in pixels; the model's own unless given."""
    preprocess: tuple[str, ...] | None = None
    """Steps in place of those that the model file names; see ``rtseg.preprocess``."""
    frames: int = 200
    """Of a round; a shorter clip begins again."""
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise OptionError(f"--frames must be at least 2, for a rate; got {self.frames}")
        if self.rounds < 1:
            raise OptionError(f"--rounds must be at least 1, got {self.rounds}")
        if len(set(self.backends)) < len(self.backends) or not all(self.backends):
            raise OptionError(f"--backends wants names with commas between them, each once: {','.join(self.backends)}")


def measure_clip(options: ClipOptions, tell: _turns.Tell = lambda done, total, what: None) -> dict[str, Any]:
    """Run the clip through every backend, at both paces, in turn; returns ``sections`` of a result.

    Raises:
        RtsegError: the clip, the model or a backend cannot be used.
    """

    def clip() -> Source:
        return open_source(options.source, SourceOptions(max_frames=options.frames, loop=True))

    if clip().live:
        raise OptionError(f"--source {redact(options.source)} is live: give a clip, which is the same in every round")
    with ExitStack() as opened:
        backends: dict[tuple[str, str], Backend] = {}
        prepares: dict[tuple[str, str], Prepare] = {}
        for name in options.backends:
            for mode, (_, hint) in MODES.items():
                backend = opened.enter_context(_open(options, name, hint))
                prepares[name, mode] = prepared(backend, options.preprocess)
                warm_up(backend)
                backends[name, mode] = backend
        runs: dict[tuple[str, str], Callable[[], Any]] = {
            (name, mode): partial(_run, clip, backend, prepares[name, mode], MODES[mode][0])
            for (name, mode), backend in backends.items()
        }
        for name in options.backends:
            key = name, "file"  # at the mode of a live source the processor is not what limits the rate
            if backends[key].device.startswith("CPU"):
                runs[name, _ALONE] = partial(cpu_costs, clip, backends[key], prepares[key])
        results, complete = _turns.in_turn(runs, options.rounds, tell)
        rows = [
            _row(options, (name, mode), found, backends[name, mode])
            | limit_facts(found, results.get((name, _ALONE), []) if mode == "file" else [])
            for (name, mode), found in results.items()
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
