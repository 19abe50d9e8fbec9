"""The fake GPU detects errors of the TensorRT backend. Each test breaks the backend in one place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.counting_models import blue_file, blues_in, frames_of
from helpers.fake_cuda import Machine, Misuse, installed, write_engine, write_for_tensorrt
from numpy.typing import NDArray

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.slots import SlotBackend
from rtseg.backends.tensorrt.backend import TensorRTBackend
from rtseg.backends.tensorrt.cuda import Device, Driver, open_device
from rtseg.backends.tensorrt.execution import EngineSlot, LoadedEngine, _Launcher
from rtseg.model_file.spec import VOID


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.chdir(tmp_path)
    with installed(Machine()) as made:
        yield made


@pytest.fixture
def engine(machine: Machine, tmp_path: Path) -> Path:
    return write_engine(blue_file(tmp_path))


def run(engine: Path) -> list[int]:
    """Submit ten batches, and return the labels of those that are still valid."""
    backend = open_backend("tensorrt", engine)  # without ``with``, so that an error of ``close`` does not hide another
    tickets = [backend.submit(frames_of(number)) for number in range(10, 20)]
    labels = [value for ticket in tickets[-backend.depth :] for value in blues_in(backend.wait(ticket))]
    backend.close()
    return labels


def test_as_it_is_nothing_is_wrong(machine: Machine, engine: Path) -> None:
    assert run(engine) == [17, 18, 19]
    assert not machine.faults
    assert not machine.left()


def test_a_slot_that_is_used_again_too_early_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reclaim(backend: SlotBackend) -> None:
        backend._free.append(backend._lent.popleft().handle)

    monkeypatch.setattr(SlotBackend, "_reclaim", reclaim)
    with pytest.raises(Misuse, match="written to before its upload was done"):
        run(engine)


def test_a_wait_that_does_not_wait_for_the_event_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend("tensorrt", engine)
    monkeypatch.setattr(backend, "_check_labels", lambda labels, shape: None)  # would refuse them first
    monkeypatch.setattr(EngineSlot, "finish", lambda slot: None)
    assert (backend.infer(frames_of(10)) == VOID).all()


@pytest.mark.parametrize(
    ("one", "other"), [(0, 1), (1, 2), (2, 3)], ids=["upload too late", "download too early", "event too early"]
)
def test_work_in_the_wrong_order_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch, one: int, other: int
) -> None:
    start = EngineSlot.start

    def other_way_round(slot: EngineSlot, frames: NDArray[np.uint8]) -> None:
        start(slot, frames)
        queue = slot._stream.queue
        assert len(queue) == 4, "an upload, an inference, a download and an event"
        queue[one], queue[other] = queue[other], queue[one]

    backend = open_backend("tensorrt", engine)
    monkeypatch.setattr(backend, "_check_labels", lambda labels, shape: None)  # would refuse them first
    monkeypatch.setattr(EngineSlot, "start", other_way_round)
    assert (backend.infer(frames_of(10)) != 10).all()


def test_work_that_nobody_waits_for_before_its_memory_is_freed_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend("tensorrt", engine)
    backend.submit(frames_of(10))
    monkeypatch.setattr(EngineSlot, "finish", lambda slot: None)
    backend.close()
    assert "a stream died with work on its way, and nobody waited for it" in machine.faults


def test_memory_that_is_freed_while_it_is_used_is_seen(machine: Machine, engine: Path) -> None:
    backend = open_backend("tensorrt", engine)
    slot: Any = backend.submit(frames_of(10)).handle
    with slot._device.active(), pytest.raises(Misuse, match=r"memory is freed while an upload of it is on its way"):
        slot._frames.free()


def test_a_call_without_a_context_is_seen(machine: Machine, engine: Path) -> None:
    backend = open_backend("tensorrt", engine)
    assert isinstance(backend, SlotBackend)
    slot: Any = backend._free[0]
    for call in (lambda: slot._run_part(0, 0, 1), slot._done.synchronize, lambda: slot._done.record(slot._stream)):
        with pytest.raises(Misuse, match="without a current context"):
            call()


def _same(kind: type, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Make a method always return its first result for the same arguments."""
    made: dict[tuple[Any, ...], Any] = {}
    method = getattr(kind, name)

    def once(self: Any, *arguments: Any) -> Any:
        if arguments not in made:
            made[arguments] = method(self, *arguments)
        return made[arguments]

    return lambda patch: patch.setattr(kind, name, once)


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        (_same(LoadedEngine, "context"), "one execution context runs on two streams"),
        (_same(Device, "memory"), "same memory"),
    ],
    ids=["context", "memory"],
)
def test_slots_that_share_what_is_one_slots_own_are_seen(
    machine: Machine,
    engine: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared: Callable[[pytest.MonkeyPatch], None],
    message: str,
) -> None:
    shared(monkeypatch)
    with pytest.raises(Misuse, match=message):
        in_flight(open_backend("tensorrt", engine))


def in_flight(backend: Backend) -> None:
    for number in range(backend.depth):
        backend.submit(frames_of(number))


def test_memory_that_is_taken_in_the_middle_of_a_capture_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.backends.tensorrt.cuda.gpu_lock", nullcontext())  # no thread waits
    with ThreadPoolExecutor(1) as thread:
        machine.during_capture = lambda: thread.submit(open_backend, "tensorrt", engine).result()
        with pytest.raises(Misuse, match="deserialize_cuda_engine while another thread captures a CUDA graph"):
            open_backend("tensorrt", engine)


def test_a_second_run_that_is_not_alone_is_seen(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = write_engine(blue_file(tmp_path), batch=4)
    one, other = open_backend("tensorrt", engine), open_backend("tensorrt", engine)
    monkeypatch.setattr("rtseg.backends.tensorrt.execution.FIRST_RUNS", 1)
    machine.recaptures_late = True
    with ThreadPoolExecutor(1) as thread:
        machine.during_capture = lambda: thread.submit(other.close).result(60)
        for _ in range(one.depth):
            one.infer(frames_of(1, 2))
        with pytest.raises(Misuse, match="while another thread captures a CUDA graph"):
            one.infer(frames_of(1, 2))


def test_a_wait_that_a_capture_forbids_is_seen(machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driver, "tolerate_captures", lambda driver: nullcontext())
    backend = open_backend("tensorrt", engine)
    ticket = backend.submit(frames_of(10))
    with ThreadPoolExecutor(1) as thread:
        machine.during_capture = lambda: thread.submit(backend.wait, ticket).result()
        with pytest.raises(Misuse, match="a wait while another thread captures a CUDA graph: CUDA forbids it"):
            open_backend("tensorrt", engine)


def test_a_stream_that_waits_for_the_default_one_is_seen(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.backends.tensorrt.cuda._STREAM_NON_BLOCKING", 0)
    with pytest.raises(Misuse, match="a stream that waits for the default one"):
        open_backend("tensorrt", engine)


def test_a_graph_that_is_replayed_for_other_shapes_is_seen(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(machine, "tensorrt"):
        backend = open_backend("tensorrt", write_for_tensorrt(blue_file(tmp_path), batch=4), hint="latency")
        monkeypatch.setattr(_Launcher, "_drop_graph", lambda launch: None)
        assert blues_in(backend.infer(frames_of(1, 2))) != [1, 2]


def test_kernels_that_are_not_compiled_in_the_first_run_are_captured_when_nobody_expects_it(
    machine: Machine, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["tensorrt_rtx"]
    lazy = module.DynamicShapesKernelSpecializationStrategy.LAZY
    monkeypatch.setattr(module, "DynamicShapesKernelSpecializationStrategy", SimpleNamespace(EAGER=lazy))
    with open_backend("tensorrt", write_engine(blue_file(tmp_path), batch=4), hint="latency") as backend:
        assert machine.captures == []
        backend.infer(frames_of(1))
        assert machine.captures == [1]


def test_a_runtime_cache_that_dies_before_its_contexts_is_seen(machine: Machine, engine: Path) -> None:
    backend = open_backend("tensorrt", engine)
    assert isinstance(backend, TensorRTBackend)
    assert backend._loaded is not None
    with open_device().active():
        backend._loaded._config = backend._loaded._cache = None
    assert machine.faults == ["a runtime cache died before its execution contexts"]


def test_streams_that_die_without_a_context_are_seen(machine: Machine, engine: Path) -> None:
    backend = open_backend("tensorrt", engine)
    assert isinstance(backend, SlotBackend)
    slot: Any = backend._free[0]
    slot._stream = slot._launch._stream = None
    assert machine.faults == ["a stream died where no context is current: pycuda leaks it"]
