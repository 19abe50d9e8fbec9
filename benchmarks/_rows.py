"""One row of ``backends.py``: a model in a backend, in a process of its own, measured when it is told to."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtseg.errors import RtsegError

if TYPE_CHECKING:
    from rtseg.backends.base import Backend

EAGER = "torch-eager"
"""The side that is no backend of rtseg: torch on a GPU without CUDA graphs."""
SLOWEST_S = 900.0
"""Longest wait for an answer of a row: what takes longer is called hung."""
_IMAGES = 4
_LEAST_FREE = 3 << 30
"""Bytes of memory that must be free before a row is begun: the kernel would end it, or something else."""


@dataclass(frozen=True)
class Side:
    """What runs the model."""

    backend: str
    precision: str
    device: str

    @property
    def title(self) -> str:
        """E.g. ``openvino bf16``; of a GPU ``torch fp16 cuda``."""
        return f"{self.backend} {self.precision}{' cuda' if self.device == 'cuda' else ''}"


@dataclass(frozen=True)
class Case:
    """What is run."""

    model: str
    size: tuple[int, int]
    batch: int

    @property
    def title(self) -> str:
        """E.g. ``icnet-camvid 384x640 x4``."""
        return f"{self.model} {self.size[0]}x{self.size[1]} x{self.batch}"


class Row:
    """The process of one side of a case; use it in ``with``. A failure is kept and measured no further."""

    def __init__(self, case: Case, side: Side) -> None:
        self.side = side
        self.failure = ""
        self.facts: dict[str, Any] = {}
        self.latencies_s: list[list[float]] = []
        self.rates: list[float] = []
        if _free_memory() < _LEAST_FREE:
            self.failure = f"not run: less than {_LEAST_FREE >> 30} GiB of memory were free"
            return
        context = get_context("spawn")  # a fresh process: its peak memory is its own
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, asdict(case), asdict(side)), daemon=True)
        self._process.start()
        other.close()
        self.facts = self._receive()

    def measure(self, seconds: float) -> None:
        """One round: latencies, then frames per second, for so many seconds each, one batch at least."""
        if not self.failure:
            found = self._ask({"seconds": seconds})
            if not self.failure:
                self.latencies_s.append(found["latencies_s"])
                self.rates.append(found["rate"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            self._pipe.send(question)
        except OSError:
            self.failure = self._how_it_ended()
            return {}
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._pipe.recv() if self._pipe.poll(SLOWEST_S) else {"failure": "it hung"}
        except (EOFError, OSError):
            answer = {"failure": self._how_it_ended()}
        self.failure = answer.pop("failure", "")
        return answer

    def _how_it_ended(self) -> str:
        self._process.join(10)
        code = self._process.exitcode
        return "the kernel ended it: out of memory" if code == -9 else f"the process ended with code {code}"

    def __enter__(self) -> Row:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if hasattr(self, "_process"):
            self._pipe.close()  # the process ends when nobody asks any more
            self._process.join(30)
            if self._process.is_alive():
                self._process.kill()


def _serve(pipe: Connection, case: dict[str, Any], side: dict[str, Any]) -> None:
    """Load, tell, and measure as often as asked; whatever goes wrong is told as a failure."""
    try:
        with _opened(Case(**case), Side(**side)) as (throughput, latency, facts):
            pipe.send(facts)
            while True:
                question = pipe.recv()
                pipe.send(_measure(throughput, latency, case["batch"], question["seconds"]))
    except EOFError:
        return
    except RtsegError as error:
        pipe.send({"failure": str(error)})
    except Exception as error:  # noqa: BLE001 - a row that fails is a row that says so
        pipe.send({"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]})


@contextmanager
def _opened(case: Case, side: Side) -> Iterator[tuple[Backend, Backend, dict[str, Any]]]:
    """The backend for many frames, the one for the next frame (often the same), and what is known of them."""
    from rtseg.system.nvidia import list_gpus

    on_gpu = side.device == "cuda"
    taken = list_gpus()[0].memory_used if on_gpu else 0
    open_with = _opener(case, side)
    begun = time.perf_counter()
    with open_with("throughput") as throughput:
        loaded_s = time.perf_counter() - begun
        frames = _frames(throughput, case.batch)
        for _ in _labelled(throughput, frames, time.perf_counter() + 0.2, least=throughput.depth + 1):
            pass
        facts = {
            "device": throughput.device,
            "runtime_version": throughput.version,
            "depth": throughput.depth,
            "load_s": loaded_s,
            "memory_mb": _peak_memory() / 1e6,
            "gpu_memory_mb": (list_gpus()[0].memory_used - taken) / 1e6 if on_gpu else None,
        }
        if throughput.depth == 1:
            yield throughput, throughput, facts
            return
        with open_with("latency") as latency:
            latency.infer(frames[0])
            yield throughput, latency, facts


def _opener(case: Case, side: Side) -> Callable[[str], Backend]:
    """What opens the side with a hint; what is slow and no part of that is done before."""
    from rtseg import open_backend

    options: dict[str, Any] = {"size": case.size, "precision": side.precision, "device": side.device}
    if side.backend == EAGER:
        from _eager import EagerTorch

        return lambda hint: EagerTorch(case.model, **options)
    if side.backend == "tensorrt":
        engine = _engine(case, side)
        return lambda hint: open_backend(side.backend, engine, hint=hint)
    return lambda hint: open_backend(side.backend, case.model, hint=hint, **options)


def _engine(case: Case, side: Side) -> Path:
    from rtseg.deploy.build_engine import build_engine
    from rtseg.deploy.options import EngineOptions

    return build_engine(EngineOptions(case.model, side.precision, case.batch, case.size)).path


def _measure(throughput: Backend, latency: Backend, batch: int, seconds: float) -> dict[str, Any]:
    frames = _frames(throughput, batch)
    latencies: list[float] = []
    ends = time.perf_counter() + seconds
    first = time.perf_counter()
    while not latencies or time.perf_counter() < ends:
        begun = time.perf_counter()
        latency.infer(frames[len(latencies) % _IMAGES])
        latencies.append(time.perf_counter() - begun)
    if throughput is latency:  # one batch at a time is all that it does
        return {"latencies_s": latencies, "rate": batch * len(latencies) / (time.perf_counter() - first)}
    # The first ones come while the pipe fills.
    warm = throughput.depth
    times = list(_labelled(throughput, frames, time.perf_counter() + seconds, least=warm + 3))[warm:]
    return {"latencies_s": latencies, "rate": batch * (len(times) - 1) / (times[-1] - times[0])}


def _labelled(backend: Backend, frames: list[Any], ends: float, *, least: int) -> Iterator[float]:
    """When the labels of each batch come, ``depth`` in flight, until ``ends`` and for ``least`` batches at least."""
    in_flight: deque[Any] = deque()
    submitted = 0
    while submitted < least or time.perf_counter() < ends:
        in_flight.append(backend.submit(frames[submitted % _IMAGES]))
        submitted += 1
        if len(in_flight) >= backend.depth:
            backend.wait(in_flight.popleft())
            yield time.perf_counter()
    while in_flight:
        backend.wait(in_flight.popleft())
        yield time.perf_counter()


def _frames(backend: Backend, batch: int) -> list[Any]:
    shape = (_IMAGES, batch, *backend.spec.size, backend.spec.channels)
    return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _peak_memory() -> int:
    """Most bytes that this process has ever held in memory."""
    return _kilobytes("/proc/self/status", "VmHWM") * 1024


def _free_memory() -> int:
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024


def _kilobytes(path: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    assert found is not None, f"{path} has no {key}"
    return int(found[1])
