"""The tests of every backend on a GPU, and tests of errors that occur only on a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from backends.test_every_backend import (  # noqa: F401 - fixtures and tests that pytest finds by their names here
    TestEveryBackend,
    TestSequenceModel,
    agreement,
    backend,
    batch,
    labels_one_by_one,
    reference_labels,
    sequence,
    sequence_truth,
    torch_threads,
)
from helpers.engines_on_demand import built_engine, open_with_engine
from numpy.typing import NDArray

from rtseg.backends import BACKENDS, open_backend
from rtseg.backends.base import Backend
from rtseg.errors import BackendError
from rtseg.model_file.load import load_model

pytestmark = pytest.mark.gpu

Images = NDArray[np.uint8]
FRAMES = 10_000


@pytest.fixture(scope="module", params=["torch", "tensorrt"])
def name(request: pytest.FixtureRequest) -> str:
    """Name of the tested backend."""
    given: str = request.param
    return given


@pytest.fixture(scope="module")
def environment(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working folder, in which TensorRT engines are built on demand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(name))
        if name == "tensorrt":
            patch.setitem(BACKENDS, name, (open_with_engine.__module__, open_with_engine.__name__, "tensorrt"))
        yield


@pytest.fixture(scope="module")
def clip(real_frames: Images) -> Images:
    """Sixteen different images, uint8 (16, 384, 640, 3)."""
    rolled = [np.roll(frame, 40 * step, axis=1) for frame in real_frames for step in range(6)]
    return np.stack(rolled[:16])


@pytest.fixture(scope="module")
def clip_truth(bundled: Path, clip: Images) -> Images:
    """Labels of ``clip`` by torch on the CPU in fp32."""
    with open_backend("torch", bundled, precision="fp32", device="cpu") as reference:
        return labels_one_by_one(reference, clip)


def send_through(opened: Backend, clip: Images, expected: Images, frames: int) -> int:
    """Send frames with all slots in flight; return the number of frames with wrong labels."""
    wrong = 0
    in_flight: deque[tuple[int, object]] = deque()
    for number in range(frames + opened.depth):
        if number < frames:
            index = number % len(clip)
            in_flight.append((index, opened.submit(clip[index : index + 1])))
        if in_flight and (len(in_flight) == opened.depth or number >= frames):
            index, ticket = in_flight.popleft()
            labels = opened.wait(ticket)[0]  # type: ignore[arg-type]
            wrong += agreement(labels, expected[index]) < 0.99
    assert not in_flight
    return wrong


@pytest.mark.usefixtures("environment")
class TestOnAGpu:
    def test_ten_thousand_frames_with_two_streams_have_the_labels_of_torch(
        self, name: str, bundled: Path, clip: Images, clip_truth: Images
    ) -> None:
        with (
            open_backend(name, bundled, precision="fp16") as one,
            open_backend(name, bundled, precision="fp16") as other,
            ThreadPoolExecutor(2) as threads,
        ):
            assert one.depth >= 2
            sent = [threads.submit(send_through, each, clip, clip_truth, FRAMES // 2) for each in (one, other)]
            assert [each.result() for each in sent] == [0, 0]

    def test_two_sources_of_different_size_at_once_have_their_own_labels(
        self, name: str, bundled: Path, clip: Images, clip_truth: Images
    ) -> None:
        small = np.ascontiguousarray(clip[:, ::2, ::2])
        with open_backend("torch", bundled, precision="fp32", device="cpu", size=(192, 320)) as reference:
            small_truth = labels_one_by_one(reference, small)
        with (
            open_backend(name, bundled, precision="fp32") as one,
            open_backend(name, bundled, precision="fp32", size=(192, 320)) as other,
            ThreadPoolExecutor(2) as threads,
        ):
            first = threads.submit(send_through, one, clip, clip_truth, 500)
            second = threads.submit(send_through, other, small, small_truth, 500)
            assert (first.result(), second.result()) == (0, 0)

    def test_the_backend_is_changed_for_another_while_frames_go_through(
        self, name: str, bundled: Path, clip: Images, clip_truth: Images
    ) -> None:
        with ThreadPoolExecutor(1) as threads:
            old = open_backend(name, bundled, precision="fp32")
            for precision in ("fp16", "fp32", "fp16"):
                running = threads.submit(send_through, old, clip, clip_truth, 300)
                new = open_backend(name, bundled, precision=precision)  # while the old one runs
                assert running.result() == 0
                old.close()
                old = new
            assert send_through(old, clip, clip_truth, 100) == 0
            old.close()

    def test_no_room_on_the_gpu_is_a_sentence_and_leaves_no_harm(
        self, name: str, bundled: Path, clip: Images, clip_truth: Images
    ) -> None:
        import torch

        with open_backend(name, bundled, precision="fp16"):
            pass  # builds the engine while there is enough memory
        free, _ = torch.cuda.mem_get_info()
        hoard = torch.empty(free - (64 << 20), dtype=torch.uint8, device="cuda")
        with pytest.raises(BackendError, match=r"memory|--size"):
            open_backend(name, bundled, precision="fp16", size=(2048, 4096))
        del hoard
        torch.cuda.empty_cache()
        with open_backend(name, bundled, precision="fp16") as opened:
            assert send_through(opened, clip, clip_truth, 20) == 0


def test_an_engine_for_batches_takes_every_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundled: Path, clip: Images, clip_truth: Images
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = built_engine(load_model(bundled), precision="fp16", batch=4)
    with open_backend("tensorrt", engine) as opened:
        assert opened.facts()["engine"]["cuda_graph"] in ("captured", "TensorRT-RTX's own")
        for length in (4, 1, 3, 9, 9, 9, 1, 1, 1):
            assert agreement(opened.infer(clip[:length]), clip_truth[:length]) >= 0.99
