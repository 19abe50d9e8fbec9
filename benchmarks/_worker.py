"""Run a model in a backend in a separate process, and measure it on request. Used by ``backends.py``."""

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
"""Not a backend of rtseg: plain torch on a GPU, without CUDA graphs."""
COMPILED = "torch-compile"
"""Not a backend of rtseg: ``torch.compile`` on the CPU."""
ANSWER_TIMEOUT_S = 900.0
"""A worker that does not answer for this long counts as hung."""
_IMAGES = 4
_MIN_FREE_BYTES = 3 << 30
"""Free memory required to start a worker: with less, the kernel might kill it or another process."""


@dataclass(frozen=True)
class Config:
    """A backend with its precision and device."""

    backend: str
    precision: str
    device: str

    @property
    def title(self) -> str:
        """E.g. ``openvino bf16``, or ``torch fp16 cuda`` on a GPU."""
        return f"{self.backend} {self.precision}{' cuda' if self.device == 'cuda' else ''}"


@dataclass(frozen=True)
class Case:
    """A model with its input size and batch size."""

    model: str
    size: tuple[int, int]
    batch: int

    @property
    def title(self) -> str:
        """E.g. ``icnet-camvid 384x640 x4``."""
        return f"{self.model} {self.size[0]}x{self.size[1]} x{self.batch}"


class Worker:
    """The process that runs a case in one configuration. Use it in ``with``. After a failure it does nothing more."""

    def __init__(self, case: Case, config: Config) -> None:
        self.config = config
        self.failure = ""
        self.facts: dict[str, Any] = {}
        self.latencies_s: list[list[float]] = []
        self.rates: list[float] = []
        if _free_memory() < _MIN_FREE_BYTES:
            self.failure = f"not run: less than {_MIN_FREE_BYTES >> 30} GiB of memory was free"
            return
        context = get_context("spawn")  # a new process, so that its peak memory is that of this worker alone
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, asdict(case), asdict(config)), daemon=True)
        self._process.start()
        other.close()
        self.facts = self._receive()

    def measure(self, seconds: float) -> None:
        """Run one round: latencies, then throughput, for ``seconds`` each and at least one batch."""
        if not self.failure:
            answer = self._request({"seconds": seconds})
            if not self.failure:
                self.latencies_s.append(answer["latencies_s"])
                self.rates.append(answer["rate"])

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._pipe.send(request)
        except OSError:
            self.failure = self._exit_reason()
            return {}
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            hung = not self._pipe.poll(ANSWER_TIMEOUT_S)
            answer: dict[str, Any] = {"failure": "the process hung"} if hung else self._pipe.recv()
        except (EOFError, OSError):
            answer = {"failure": self._exit_reason()}
        self.failure = answer.pop("failure", "")
        return answer

    def _exit_reason(self) -> str:
        self._process.join(10)
        code = self._process.exitcode
        return "the kernel killed the process: out of memory" if code == -9 else f"the process ended with code {code}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if hasattr(self, "_process"):
            self._pipe.close()  # the process ends when its pipe is closed
            self._process.join(30)
            if self._process.is_alive():
                self._process.kill()


def _serve(pipe: Connection, case: dict[str, Any], config: dict[str, Any]) -> None:
    """Open the backends, send their facts, and measure on request. Errors are sent as failures."""
    try:
        with _open_backends(Case(**case), Config(**config)) as (throughput, latency, facts):
            pipe.send(facts)
            while True:
                request = pipe.recv()
                pipe.send(_measure(throughput, latency, case["batch"], request["seconds"]))
    except EOFError:
        return
    except RtsegError as error:
        pipe.send({"failure": str(error)})
    except Exception as error:  # noqa: BLE001 - the failure becomes part of the result
        pipe.send({"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]})


@contextmanager
def _open_backends(case: Case, config: Config) -> Iterator[tuple[Backend, Backend, dict[str, Any]]]:
    """Yield the backend for throughput, the one for latency (often the same), and facts about them."""
    from rtseg.system.nvidia import list_gpus

    on_gpu = config.device == "cuda"
    memory_before = list_gpus()[0].memory_used if on_gpu else 0
    open_with = _make_opener(case, config)
    started = time.perf_counter()
    with open_with("throughput") as throughput:
        loaded_s = time.perf_counter() - started
        frames = _frames(throughput, case.batch)
        for _ in _infer_until(throughput, frames, time.perf_counter() + 0.2, at_least=throughput.depth + 1):
            pass
        facts = {
            "device": throughput.device,
            "runtime_version": throughput.version,
            "depth": throughput.depth,
            "load_s": loaded_s,
            "memory_mb": _peak_memory() / 1e6,
            "gpu_memory_mb": (list_gpus()[0].memory_used - memory_before) / 1e6 if on_gpu else None,
        }
        if throughput.depth == 1:
            yield throughput, throughput, facts
            return
        with open_with("latency") as latency:
            latency.infer(frames[0])
            yield throughput, latency, facts


def _make_opener(case: Case, config: Config) -> Callable[[str], Backend]:
    """Return a function that opens the backend with a hint. Slow preparations are done here, before the timing."""
    from rtseg import open_backend

    options: dict[str, Any] = {"size": case.size, "precision": config.precision, "device": config.device}
    if config.backend in (EAGER, COMPILED):
        from _eager import CompiledTorch, EagerTorch

        plain = EagerTorch if config.backend == EAGER else CompiledTorch
        return lambda hint: plain(case.model, **options)
    if config.backend == "tensorrt":
        engine = _build_engine(case, config)
        return lambda hint: open_backend(config.backend, engine, hint=hint)
    return lambda hint: open_backend(config.backend, case.model, hint=hint, **options)


def _build_engine(case: Case, config: Config) -> Path:
    from rtseg.deploy.build_engine import build_engine
    from rtseg.deploy.options import EngineOptions

    return build_engine(EngineOptions(case.model, config.precision, case.batch, case.size)).path


def _measure(throughput: Backend, latency: Backend, batch: int, seconds: float) -> dict[str, Any]:
    frames = _frames(throughput, batch)
    latencies: list[float] = []
    first = time.perf_counter()
    end = first + seconds
    while not latencies or time.perf_counter() < end:
        started = time.perf_counter()
        latency.infer(frames[len(latencies) % _IMAGES])
        latencies.append(time.perf_counter() - started)
    if throughput is latency:  # it only runs one batch at a time
        return {"latencies_s": latencies, "rate": batch * len(latencies) / (time.perf_counter() - first)}
    # The first batches do not count: they are submitted while nothing else is in flight.
    skipped = throughput.depth
    times = list(_infer_until(throughput, frames, time.perf_counter() + seconds, at_least=skipped + 3))[skipped:]
    return {"latencies_s": latencies, "rate": batch * (len(times) - 1) / (times[-1] - times[0])}


def _infer_until(backend: Backend, frames: list[Any], end: float, *, at_least: int) -> Iterator[float]:
    """Yield the times at which labels arrive, with ``depth`` batches in flight, until ``end`` or longer."""
    in_flight: deque[Any] = deque()
    submitted = 0
    while submitted < at_least or time.perf_counter() < end:
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
    """The peak memory of this process, in bytes."""
    return _kilobytes("/proc/self/status", "VmHWM") * 1024


def _free_memory() -> int:
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024


def _kilobytes(path: str, key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    assert match is not None, f"{path} has no {key}"
    return int(match[1])
