"""The GPU code of the torch backend, without a GPU: a replay of a captured graph runs the network again on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtseg.backends import open_backend
from rtseg.backends.slots import SlotBackend, gpu_lock
from rtseg.backends.torch import Gpu, GraphSlot, TorchNetwork, build_network
from rtseg.errors import BackendError
from rtseg.model_file.load import load_model

Images = NDArray[np.uint8]
CPU = torch.device("cpu")


class Event:
    def __init__(self) -> None:
        self.recorded = 0

    def record(self, stream: Any) -> None:
        self.recorded += 1

    def synchronize(self) -> None: ...


class CpuGpu(Gpu):
    """Runs the captured function again, on the same memory, when a graph is replayed."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.captures = 0
        self.fails = False

    def stream(self) -> Any:
        return object()

    def event(self) -> Any:
        return Event()

    def pool(self) -> Any:
        return None

    def on(self, stream: Any) -> Any:
        return nullcontext()

    def pinned(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8)

    def capture(self, run: Callable[[], None], stream: Any, pool: Any) -> Callable[[], None]:
        self.captures += 1
        for _ in range(3):  # the warm-up changes the memory
            run()

        def replay() -> None:
            if self.fails:
                raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")
            run()

        return replay


class GraphBackend(SlotBackend):
    """Like ``TorchBackend`` on a GPU."""

    name = "torch"

    def __init__(self, path: Path, gpu: Gpu, depth: int, precision: str = "fp32") -> None:
        super().__init__()
        model = load_model(path)
        self.spec = model.spec
        self.recurrent = model.state_shape is not None
        network = TorchNetwork(build_network(model), CPU, precision)
        self._add_slots((GraphSlot(network, gpu, model.state_shape) for _ in range(depth)), warmup_runs=1)


@pytest.fixture(scope="module")
def batch() -> Images:
    patches = np.random.default_rng(3).integers(0, 256, (4, 8, 12, 3), dtype=np.uint8)
    return patches.repeat(8, 1).repeat(8, 2)


def labels_of(path: Path, frames: list[Images]) -> list[Images]:
    with open_backend("torch", path, precision="fp32", device="cpu") as backend:
        return [backend.infer(each).copy() for each in frames]


def test_batches_of_any_length_in_flight_have_the_labels_of_eager_torch(icnet_file: Path, batch: Images) -> None:
    frames = [batch[:1], batch[1:3], batch[3:], batch[:3], batch[2:3]]
    gpu = CpuGpu()
    with GraphBackend(icnet_file, gpu, depth=2) as backend:
        assert (backend.depth, gpu.captures) == (2, 2), "every slot captures one frame at first"
        tickets = [backend.submit(frames[0])]
        got = []
        for each in frames[1:]:
            tickets.append(backend.submit(each))
            got.append(backend.wait(tickets[-2]).copy())
        got.append(backend.wait(tickets[-1]).copy())
    for one, other in zip(got, labels_of(icnet_file, frames), strict=True):
        np.testing.assert_array_equal(one, other)
    assert gpu.captures == 4, "one frame in each slot, and two and three frames when they arrive"


def test_a_capture_holds_the_lock_that_keeps_other_threads_from_the_gpu(icnet_file: Path, batch: Images) -> None:
    acquired: list[bool] = []

    class Watched(CpuGpu):
        def capture(self, run: Callable[[], None], stream: Any, pool: Any) -> Callable[[], None]:
            with ThreadPoolExecutor(1) as thread:
                acquired.append(thread.submit(gpu_lock.acquire, blocking=False).result())
            return super().capture(run, stream, pool)

    with GraphBackend(icnet_file, Watched(), depth=1) as backend:
        backend.infer(batch[:2])
        backend.infer(batch[:2])
    assert acquired == [False, False], "for one frame when it is opened, and for two frames when they arrive"


def test_the_array_is_the_callers_again_as_soon_as_submit_returns(icnet_file: Path, batch: Images) -> None:
    with GraphBackend(icnet_file, CpuGpu(), depth=1) as backend:
        frames = batch[:1].copy()
        ticket = backend.submit(frames)
        frames[...] = 0
        np.testing.assert_array_equal(backend.wait(ticket), labels_of(icnet_file, [batch[:1]])[0])


def test_the_state_of_a_sequence_model_stays_in_its_memory(sequence_file: Path, batch: Images) -> None:
    video = [frame[None] for frame in batch]
    with GraphBackend(sequence_file, CpuGpu(), depth=1) as backend:
        expected = labels_of(sequence_file, video)
        for _ in range(2):
            backend.reset()
            for frame, labels in zip(video, expected, strict=True):
                np.testing.assert_array_equal(backend.infer(frame), labels)
        assert (backend.infer(video[0]) != expected[0]).any(), "without a reset it remembers"
        backend.infer(batch[:2])
        np.testing.assert_array_equal(backend.infer(video[0]), expected[0])


def test_labels_in_half_precision_are_near_those_in_full(icnet_file: Path, batch: Images) -> None:
    with GraphBackend(icnet_file, CpuGpu(), depth=1, precision="fp16") as backend:
        share = (backend.infer(batch) == labels_of(icnet_file, [batch])[0]).mean()
    assert 0.98 <= share < 1, "not one pixel differs: was it fp16 at all?"


def test_a_failure_is_one_line(icnet_file: Path, batch: Images) -> None:
    gpu = CpuGpu()
    with GraphBackend(icnet_file, gpu, depth=1) as backend:
        gpu.fails = True
        with pytest.raises(BackendError, match=r"^torch failed: CUDA error: an illegal .* encountered$"):
            backend.submit(batch[:1])
        gpu.fails = False
        np.testing.assert_array_equal(backend.infer(batch[:1]), labels_of(icnet_file, [batch[:1]])[0])


def test_a_call_makes_no_matrix_on_the_cpu_that_could_not_be_captured(
    icnet_file: Path, batch: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = build_network(load_model(icnet_file))
    frames = torch.from_numpy(batch[:1].copy())

    def refuse(array: object) -> Tensor:
        raise AssertionError("a matrix is made and would be sent to the GPU in every call")

    monkeypatch.setattr(torch, "from_numpy", refuse)
    with torch.no_grad():
        found = labels(frames)
    assert found.shape == (1, 64, 96)
