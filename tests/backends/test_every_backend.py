"""Tests that run on every backend. A new backend adds its name, its package and its precisions below."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.doubles import blue_graph, wide_spec
from helpers.fake_cuda import Machine, installed, open_with_engine
from numpy.typing import NDArray

from rtseg.backends import BACKENDS, open_backend
from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.cuda import _device
from rtseg.errors import BackendError, BackendUnavailable, ModelError, OptionError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import file_sha256, write_spec
from rtseg.system.nvidia import find_gpu

Images = NDArray[np.uint8]

NAMES = ("openvino", "onnxruntime", "torch", "tensorrt")
PACKAGES = {
    "openvino": ("openvino", "pip install --force-reinstall rtseg"),
    "onnxruntime": ("onnxruntime", "pip install 'rtseg[onnxruntime]'"),
    "torch": ("torch", "pip install 'rtseg[train]'"),
    "tensorrt": ("pycuda", "pip install 'rtseg[cuda]' (needs a C++ compiler and the CUDA headers)"),
}
"""Backend -> its package, and how to install it according to the error message."""
WITH_BF16 = ("openvino", "torch")
LACKING = {"openvino": ("fp16",), "onnxruntime": ("fp16", "bf16"), "torch": ("fp16", "int8")}
LACKING["tensorrt"] = ("bf16",)
ON_A_GPU = ("torch", "tensorrt")
"""Backends that use a GPU if there is one."""
HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Name of the tested backend. ``tests/gpu`` runs the same tests with the backends for a GPU."""
    given: str = request.param
    return given


@pytest.fixture(scope="module")
def batch() -> Images:
    """Eight images of noise in patches, uint8 (8, 64, 96, 3), with different labels."""
    patches = np.random.default_rng(3).integers(0, 256, (8, 8, 12, 3), dtype=np.uint8)
    return patches.repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def environment(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the backend ``name`` needs: for TensorRT the fake GPU, and engines that are written on demand."""
    if name != "tensorrt":
        yield
        return
    machine = Machine()
    with installed(machine), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tensorrt"))
        patch.setitem(BACKENDS, name, (open_with_engine.__module__, open_with_engine.__name__, "tensorrt"))
        yield
    assert not machine.faults


@pytest.fixture(scope="module")
def backend(name: str, environment: None, icnet_file: Path) -> Iterator[Backend]:
    """The backend ``name`` in fp32 with the tiny model."""
    with open_backend(name, icnet_file, precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def reference_labels(bundled: Path, real_frames: Images) -> Images:
    """Labels of the real frames by torch in fp32, with the bundled model."""
    with open_backend("torch", bundled, precision="fp32", device="cpu") as reference:
        return np.concatenate([reference.infer(frame[None]) for frame in real_frames])


def agreement(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Share of pixels with the same label, in [0, 1]."""
    assert one.shape == other.shape
    return float((one == other).mean())


def labels_one_by_one(backend: Backend, frames: Images) -> Images:
    return np.concatenate([backend.infer(frame[None]).copy() for frame in frames])


def cpu_has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_every_backend_there_is_takes_these_tests() -> None:
    assert set(NAMES) == set(BACKENDS) == set(PACKAGES) == set(LACKING)


@pytest.mark.usefixtures("environment")
class TestEveryBackend:
    def test_labels_agree_with_torch_on_999_of_1000_pixels_in_fp32(
        self, name: str, bundled: Path, real_frames: Images, reference_labels: Images
    ) -> None:
        assert len(np.unique(reference_labels)) >= 5, "labels of so few classes prove nothing"
        with open_backend(name, bundled, precision="fp32") as opened:
            assert opened.precision == "fp32"
            assert agreement(labels_one_by_one(opened, real_frames), reference_labels) >= 0.999

    def test_labels_agree_with_torch_on_990_of_1000_pixels_in_bf16(
        self, name: str, bundled: Path, real_frames: Images, reference_labels: Images
    ) -> None:
        if name not in WITH_BF16:
            pytest.skip(f"{name} does not compute in bf16")
        if not cpu_has_bf16():
            pytest.skip("this CPU has no bf16 arithmetic")
        with open_backend(name, bundled, precision="bf16") as opened:
            assert opened.precision == "bf16"
            labels = labels_one_by_one(opened, real_frames)
        assert agreement(labels, reference_labels) >= 0.99
        assert (labels != reference_labels).any(), "not one pixel differs: was it bf16 at all?"

    def test_it_tells_when_labels_are_there(self, backend: Backend, batch: Images) -> None:
        ticket = backend.submit(batch)
        assert backend.is_ready(ticket, 60.0)
        assert backend.is_ready(ticket, 0.0), "asking changes nothing"
        assert (backend.wait(ticket) == backend.infer(batch)).all()

    def test_it_says_what_it_is(self, name: str, backend: Backend) -> None:
        assert backend.name == name
        assert backend.precision == "fp32"
        gpu = find_gpu()
        assert backend.device == (gpu.name if gpu is not None and name in ON_A_GPU else "CPU")
        assert backend.version[0].isdigit()
        assert backend.depth >= 1
        assert (backend.spec.name, backend.spec.size, len(backend.spec.classes)) == ("tiny", (HEIGHT, WIDTH), 11)

    def test_labels_are_uint8_ids_of_the_models_classes_and_never_void(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        labels = backend.infer(batch[:2])
        assert (labels.dtype, labels.shape) == (np.uint8, (2, HEIGHT, WIDTH))
        assert labels.max() < len(backend.spec.classes)
        assert len(np.unique(labels)) > 1

    def test_a_batch_of_three_has_the_labels_of_three_batches_of_one(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        alone = labels_one_by_one(backend, batch[:3])
        assert agreement(backend.infer(batch[:3]), alone) >= 0.999
        assert agreement(alone[0], alone[1]) < 0.999, "images with the same labels prove nothing"

    def test_batches_of_any_length_may_follow_each_other(self, name: str, backend: Backend, batch: Images) -> None:
        alone = labels_one_by_one(backend, batch)
        for length in (1, 4, 2, 8, 1):
            assert agreement(backend.infer(batch[:length]), alone[:length]) >= 0.999

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16, np.bool_])
    def test_a_batch_of_another_dtype_is_refused_with_it_in_the_message(
        self, name: str, backend: Backend, batch: Images, dtype: type
    ) -> None:
        with pytest.raises(ValueError, match=rf"uint8 \(N, 64, 96, 3\), got {np.dtype(dtype)} \(1, 64, 96, 3\)"):
            backend.submit(batch[:1].astype(dtype))

    @pytest.mark.parametrize(
        "shape", [(64, 96, 3), (1, 64, 96), (1, 64, 96, 4), (1, 96, 64, 3), (1, 3, 64, 96), (1, 1, 64, 96, 3), (0,)]
    )
    def test_a_batch_of_another_shape_is_refused_with_it_in_the_message(
        self, name: str, backend: Backend, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ValueError, match=r"frames must be uint8 \(N, 64, 96, 3\), got uint8") as caught:
            backend.submit(np.zeros(shape, np.uint8))
        assert str(caught.value).endswith(f"uint8 {shape}")

    def test_an_empty_batch_is_refused(self, name: str, backend: Backend) -> None:
        with pytest.raises(ValueError, match=r"got uint8 \(0, 64, 96, 3\)"):
            backend.submit(np.zeros((0, HEIGHT, WIDTH, 3), np.uint8))

    @pytest.mark.parametrize(
        "view",
        [lambda whole: whole[:, ::-1], lambda whole: whole[..., ::-1], lambda whole: whole[::2], np.asfortranarray],
        ids=["upside down", "other order of colours", "every second image", "fortran order"],
    )
    def test_a_batch_that_does_not_lie_in_one_piece_is_labelled_as_its_copy_is(
        self, name: str, backend: Backend, batch: Images, view: Callable[[Images], Images]
    ) -> None:
        frames = view(batch[:4])
        assert not frames.flags.c_contiguous
        expected = backend.infer(np.ascontiguousarray(frames)).copy()
        np.testing.assert_array_equal(backend.infer(frames), expected)

    def test_a_batch_that_may_not_be_written_to_is_labelled_too(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        locked = batch[:1].copy()
        locked.flags.writeable = False
        expected = backend.infer(batch[:1]).copy()
        np.testing.assert_array_equal(backend.infer(locked), expected)

    def test_the_batch_is_only_read(self, name: str, backend: Backend, batch: Images) -> None:
        frames = batch[:2].copy()
        backend.infer(frames)
        np.testing.assert_array_equal(frames, batch[:2])

    def test_as_many_batches_as_its_depth_may_be_waited_for_in_any_order(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        depth = min(backend.depth, 4)
        alone = labels_one_by_one(backend, batch[:depth])
        for order in permutations(range(depth)):
            tickets = [backend.submit(frame[None]) for frame in batch[:depth]]
            for index in order:
                np.testing.assert_array_equal(backend.wait(tickets[index])[0], alone[index])

    def test_labels_stay_valid_while_fewer_than_depth_batches_are_submitted(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        labels = backend.infer(batch[:1])
        before = labels.copy()
        later = [backend.submit(batch[index : index + 1]) for index in range(1, backend.depth)]
        np.testing.assert_array_equal(labels, before)
        for ticket in later:
            backend.wait(ticket)
        np.testing.assert_array_equal(labels, before)

    def test_the_same_batch_has_the_same_labels_again_and_again(
        self, name: str, backend: Backend, batch: Images
    ) -> None:
        first = backend.infer(batch[:1]).copy()
        for _ in range(2 * backend.depth + 1):
            np.testing.assert_array_equal(backend.infer(batch[:1]), first)

    @pytest.mark.parametrize("hint", ["throughput", "latency"])
    def test_closing_twice_is_the_same_as_once_also_with_batches_in_flight(
        self, name: str, icnet_file: Path, batch: Images, hint: str
    ) -> None:
        opened = open_backend(name, icnet_file, hint=hint)
        for index in range(opened.depth):
            opened.submit(batch[index : index + 1])
        opened.close()
        opened.close()

    def test_with_closes_it(self, name: str, icnet_file: Path) -> None:
        with open_backend(name, icnet_file) as opened:
            assert isinstance(opened, Backend)
        opened.close()

    def test_it_runs_at_another_size_with_the_labels_that_torch_has_there(
        self, name: str, bundled: Path, real_frames: Images
    ) -> None:
        frames = np.ascontiguousarray(real_frames[:2, ::2, ::2])
        with open_backend("torch", bundled, size=(192, 320), precision="fp32", device="cpu") as reference:
            expected = labels_one_by_one(reference, frames)
        assert len(np.unique(expected)) >= 5
        with open_backend(name, bundled, size=(192, 320), precision="fp32") as opened:
            assert opened.spec.size == (192, 320)
            assert opened.spec.miou is None, "that was measured at another size"
            assert agreement(labels_one_by_one(opened, frames), expected) >= 0.999

    def test_its_own_size_changes_nothing(self, name: str, icnet_file: Path) -> None:
        with open_backend(name, icnet_file, size=(HEIGHT, WIDTH)) as opened:
            assert opened.spec == load_model(icnet_file).spec

    def test_a_size_that_the_network_cannot_take_is_refused_with_the_nearest_that_it_can(
        self, name: str, bundled: Path
    ) -> None:
        with pytest.raises(OptionError, match="multiples of 32, got 100x100: try 96x96"):
            open_backend(name, bundled, size=(100, 100))

    def test_a_precision_that_it_lacks_is_refused_with_those_it_has(self, name: str, icnet_file: Path) -> None:
        on_a_gpu = name == "torch" and find_gpu() is not None
        for precision in ("int8",) if on_a_gpu else LACKING[name]:
            with pytest.raises(BackendUnavailable, match=f"computes in fp32.* not in {precision}"):
                open_backend(name, icnet_file, precision=precision)

    def test_auto_becomes_the_precision_that_it_computes_in(self, name: str, icnet_file: Path) -> None:
        fastest = {"openvino": "bf16" if cpu_has_bf16() else "fp32", "tensorrt": "fp16"}
        if find_gpu() is not None:
            fastest["torch"] = "fp16"
        with open_backend(name, icnet_file, precision="auto") as opened:
            assert opened.precision == fastest.get(name, "fp32")

    def test_a_gpu_where_it_cannot_use_one_is_refused_with_the_next_step(self, name: str, icnet_file: Path) -> None:
        if name == "tensorrt":
            pytest.skip("it runs on a GPU only; tests/backends/test_tensorrt.py asks for the CPU")
        if name == "torch":
            import torch

            if torch.cuda.is_available():
                pytest.skip("torch can use the GPU of this machine")
        with pytest.raises(BackendUnavailable, match="use --device cpu"):
            open_backend(name, icnet_file, device="cuda")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_any_number_of_threads_gives_the_same_labels(
        self, name: str, icnet_file: Path, backend: Backend, batch: Images, torch_threads: None, threads: int
    ) -> None:
        expected = labels_one_by_one(backend, batch[:2])
        with open_backend(name, icnet_file, precision="fp32", threads=threads) as opened:
            assert agreement(labels_one_by_one(opened, batch[:2]), expected) >= 0.999

    def test_a_missing_package_is_told_with_the_command_that_brings_it(
        self, name: str, icnet_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package, remedy = PACKAGES[name]
        _device.cache_clear()  # otherwise the loaded package is used again
        monkeypatch.delitem(sys.modules, BACKENDS[name][0], raising=False)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(BackendUnavailable) as caught:
            open_backend(name, icnet_file)
        assert str(caught.value) == f"backend {name!r} needs {package!r}: {remedy}"

    @pytest.mark.parametrize("content", [b"", b"this is no model", None], ids=["empty", "text", "cut off"])
    def test_a_damaged_file_is_a_model_error_that_names_it(
        self, name: str, icnet_file: Path, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "broken.onnx"
        path.write_bytes(icnet_file.read_bytes()[:1_000_000] if content is None else content)
        with pytest.raises(ModelError, match=str(path)):
            open_backend(name, path)

    @pytest.mark.parametrize("harm", ["kernel cut short", "kernel of another shape", "unknown type", "no kernels"])
    def test_a_file_whose_weights_are_spoilt_is_a_model_error_that_names_it(
        self, name: str, icnet_file: Path, tmp_path: Path, harm: str
    ) -> None:
        if name == "tensorrt":
            pytest.skip("its weights are in the engine")
        model = onnx.load(str(icnet_file))
        kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        if harm == "kernel cut short":
            kernel.raw_data = kernel.raw_data[:100]
        elif harm == "kernel of another shape":
            kernel.dims[0] += 1
        elif harm == "unknown type":
            kernel.data_type = 99
        else:
            del model.graph.initializer[:]
        path = tmp_path / "spoilt.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError) as caught:
            open_backend(name, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_of_another_contract_is_refused(self, name: str, tmp_path: Path) -> None:
        model = blue_graph(frames=("images", onnx.TensorProto.FLOAT, ["N", 3, 4, 6]))
        write_spec(model, wide_spec((4, 6)))
        path = tmp_path / "other.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=r"other\.onnx is not a model file of rtseg: expected one input frames"):
            open_backend(name, path)

    def test_a_graph_of_other_origin_runs_wherever_the_graph_itself_is_run(self, name: str, tmp_path: Path) -> None:
        model = blue_graph()
        write_spec(model, wide_spec((4, 6)))
        path = tmp_path / "blue.onnx"
        path.write_bytes(model.SerializeToString())
        if name == "torch":
            with pytest.raises(BackendUnavailable, match=r"names no network .* use --backend openvino or onnxruntime"):
                open_backend(name, path)
            return
        frames = np.random.default_rng(0).integers(0, 200, (3, 4, 6, 3), dtype=np.uint8)
        with open_backend(name, path) as opened:
            np.testing.assert_array_equal(opened.infer(frames), frames[..., 0])


@pytest.fixture(scope="module")
def sequence(name: str, environment: None, sequence_file: Path) -> Iterator[Backend]:
    """The backend ``name`` in fp32 with the tiny sequence model."""
    with open_backend(name, sequence_file, precision="fp32") as opened:
        yield opened


@pytest.fixture(scope="module")
def sequence_truth(sequence_file: Path, batch: Images) -> Images:
    """Labels by torch of the images of ``batch`` as frames of one video."""
    with open_backend("torch", sequence_file, precision="fp32", device="cpu") as reference:
        return labels_one_by_one(reference, batch)


@pytest.mark.usefixtures("environment")
class TestSequenceModel:
    @pytest.mark.parametrize("hint", ["throughput", "latency"])
    def test_one_frame_is_in_flight_whatever_the_hint(self, name: str, sequence_file: Path, hint: str) -> None:
        with open_backend(name, sequence_file, hint=hint) as opened:
            assert opened.recurrent
            assert opened.depth == 1

    def test_labels_agree_with_torch_frame_by_frame(
        self, name: str, sequence: Backend, batch: Images, sequence_truth: Images
    ) -> None:
        sequence.reset()
        labels = labels_one_by_one(sequence, batch)
        assert len(np.unique(sequence_truth)) >= 4, "labels of so few classes prove nothing"
        for got, expected in zip(labels, sequence_truth, strict=True):
            assert agreement(got, expected) >= 0.999

    def test_after_a_reset_the_same_frames_have_the_same_labels_and_without_one_they_have_others(
        self, name: str, sequence: Backend, batch: Images
    ) -> None:
        sequence.reset()
        first = labels_one_by_one(sequence, batch)
        again = labels_one_by_one(sequence, batch)
        sequence.reset()
        np.testing.assert_array_equal(labels_one_by_one(sequence, batch), first)
        assert agreement(again[0], first[0]) < 0.99

    def test_a_fresh_one_remembers_nothing(
        self, name: str, sequence_file: Path, sequence: Backend, batch: Images
    ) -> None:
        sequence.reset()
        expected = labels_one_by_one(sequence, batch[:2])
        with open_backend(name, sequence_file, precision="fp32") as opened:
            np.testing.assert_array_equal(labels_one_by_one(opened, batch[:2]), expected)

    def test_each_image_of_a_batch_is_a_frame_of_a_video_of_its_own(
        self, name: str, sequence: Backend, batch: Images
    ) -> None:
        videos = [batch[:4], batch[4:]]
        alone = []
        for frames in videos:
            sequence.reset()
            alone.append(labels_one_by_one(sequence, frames))
        sequence.reset()
        for moment in range(4):
            labels = sequence.infer(np.stack([frames[moment] for frames in videos]))
            for got, expected in zip(labels, alone, strict=True):
                assert agreement(got, expected[moment]) >= 0.999

    def test_a_batch_of_another_length_begins_anew(self, name: str, sequence: Backend, batch: Images) -> None:
        sequence.reset()
        first = sequence.infer(batch[:1]).copy()
        sequence.infer(batch[1:3])
        assert agreement(sequence.infer(batch[:1]), first) >= 0.999

    def test_a_frame_in_flight_keeps_its_labels_when_the_next_one_begins_anew(
        self, name: str, sequence: Backend, batch: Images, sequence_truth: Images
    ) -> None:
        sequence.reset()
        sequence.infer(batch[:1])
        ticket = sequence.submit(batch[1:2])
        sequence.reset()
        assert agreement(sequence.wait(ticket)[0], sequence_truth[1]) >= 0.999
        assert agreement(sequence.infer(batch[:1])[0], sequence_truth[0]) >= 0.999

    def test_frames_that_nobody_waits_for_are_remembered_all_the_same(
        self, name: str, sequence: Backend, batch: Images, sequence_truth: Images
    ) -> None:
        sequence.reset()
        for frame in batch[:-1]:
            sequence.submit(frame[None])
        assert agreement(sequence.infer(batch[-1:])[0], sequence_truth[-1]) >= 0.999

    def test_a_memory_in_bf16_stays_near_that_in_fp32(
        self, name: str, sequence_file: Path, batch: Images, sequence_truth: Images
    ) -> None:
        if name not in WITH_BF16:
            pytest.skip(f"{name} does not compute in bf16")
        if not cpu_has_bf16():
            pytest.skip("this CPU has no bf16 arithmetic")
        with open_backend(name, sequence_file, precision="bf16") as opened:
            labels = labels_one_by_one(opened, batch)
        assert agreement(labels, sequence_truth) >= 0.97

    def test_at_another_size_it_remembers_too(self, name: str, sequence_file: Path, batch: Images) -> None:
        frames = np.ascontiguousarray(batch.repeat(2, 1)[:4])
        with open_backend("torch", sequence_file, size=(128, 96), precision="fp32", device="cpu") as reference:
            expected = labels_one_by_one(reference, frames)
        with open_backend(name, sequence_file, size=(128, 96), precision="fp32") as opened:
            assert agreement(labels_one_by_one(opened, frames), expected) >= 0.999
            assert agreement(opened.infer(frames[:1])[0], expected[0]) < 0.999

    def test_a_model_of_single_images_has_nothing_to_forget(self, name: str, backend: Backend, batch: Images) -> None:
        assert not backend.recurrent
        before = backend.infer(batch[:1]).copy()
        backend.reset()
        np.testing.assert_array_equal(backend.infer(batch[:1]), before)


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Restore torch's number of threads."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_torch_refuses_a_file_whose_state_is_not_that_of_the_network_it_names(
    icnet_file: Path, sequence_file: Path, tmp_path: Path
) -> None:
    for path, architecture in ((icnet_file, "icnet-gru"), (sequence_file, "icnet:width=4")):
        model = load_model(path)
        write_spec(model.graph, replace(model.spec, architecture=architecture))
        other = tmp_path / path.name
        other.write_bytes(model.graph.SerializeToString())
        with pytest.raises(
            ModelError, match=rf"the state in .*{path.name} is not that of the network '{architecture}'"
        ):
            open_backend("torch", other)


class TestOpenVino:
    def test_files_have_several_batches_in_flight_and_live_sources_one(self, icnet_file: Path) -> None:
        with open_backend("openvino", icnet_file, hint="throughput") as opened:
            assert opened.depth >= 2
        with open_backend("openvino", icnet_file, hint="latency") as opened:
            assert opened.depth == 1

    def test_a_batch_whose_ticket_was_thrown_away_is_kept_while_the_runtime_reads_it(
        self, icnet_file: Path, batch: Images
    ) -> None:
        with open_backend("openvino", icnet_file) as opened:
            frames = batch[:1].copy()
            alive = weakref.ref(frames)
            opened.submit(frames)
            del frames
            gc.collect()
            assert alive() is not None
        gc.collect()
        assert alive() is None

    def test_waiting_too_late_is_an_error_and_not_the_labels_of_another_batch(
        self, icnet_file: Path, batch: Images
    ) -> None:
        with open_backend("openvino", icnet_file) as opened:
            late = opened.submit(batch[:1])
            for _ in range(opened.depth):
                opened.submit(batch[1:2])
            with pytest.raises(BackendError, match="are gone"):
                opened.wait(late)


class TestOpenBackend:
    def test_auto_is_openvino(self, icnet_file: Path) -> None:
        with open_backend("auto", icnet_file) as opened:
            assert opened.name == "openvino"

    def test_a_bundled_model_is_opened_by_its_name(self, bundled: Path) -> None:
        with open_backend("onnxruntime", "icnet-camvid") as opened:
            assert opened.spec == load_model(bundled).spec

    @pytest.mark.parametrize("size", [None, (128, 96)])
    def test_a_loaded_model_file_is_opened_like_its_path(
        self, icnet_file: Path, batch: Images, size: tuple[int, int] | None
    ) -> None:
        frames = batch[:1] if size is None else np.ascontiguousarray(batch[:1].repeat(2, 1))
        with (
            open_backend("openvino", icnet_file, size=size) as from_path,
            open_backend("openvino", load_model(icnet_file), size=size) as from_file,
        ):
            assert from_file.facts() == from_path.facts()
            assert from_file.model_sha256 == file_sha256(icnet_file)
            np.testing.assert_array_equal(from_file.infer(frames), from_path.infer(frames))

    @pytest.mark.parametrize("name", ["openvino", "torch"])
    def test_a_closed_backend_refuses_a_batch(self, name: str, icnet_file: Path, batch: Images) -> None:
        with open_backend(name, icnet_file, device="cpu") as opened:
            opened.infer(batch[:1])
        with pytest.raises(BackendError, match=f"the {name} backend is closed: open it again"):
            opened.submit(batch[:1])

    def test_an_unknown_name_is_refused_with_those_known(self, icnet_file: Path) -> None:
        with pytest.raises(
            OptionError, match="unknown backend 'caffe'; known are auto, onnxruntime, openvino, tensorrt, torch"
        ):
            open_backend("caffe", icnet_file)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": "fp64"}, "--precision must be one of auto, fp32, fp16, bf16, int8, got 'fp64'"),
            ({"device": "tpu"}, "--device must be one of auto, cpu, cuda, got 'tpu'"),
            ({"hint": "fast"}, "hint must be throughput or latency, got 'fast'"),
            ({"threads": 0}, "threads must be at least 1, got 0"),
        ],
    )
    def test_an_unknown_option_value_is_refused_with_those_known(
        self, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(OptionError, match=message):
            BackendOptions(**options)  # type: ignore[arg-type]

    def test_a_model_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(ModelError, match="no model 'nope'"):
            open_backend("openvino", "nope")

    def test_a_graph_whose_size_nobody_knows_how_to_change_says_how_to_get_another(self, tmp_path: Path) -> None:
        model = blue_graph()
        write_spec(model, replace(wide_spec((4, 6)), architecture="icnet"))
        path = tmp_path / "blue.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(OptionError, match="runs only at its own size 4x6: export it again with --size 64x96"):
            open_backend("openvino", path, size=(64, 96))
