"""Which backend ``auto`` chooses, and the reason it reports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.counting_models import blue_file, blues_in, frames_of
from helpers.fake_cuda import Machine, installed, missing, write_engine

from rtseg.backends import open_backend
from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.openvino import OpenVinoBackend
from rtseg.backends.select import Choice, choose
from rtseg.cli import main
from rtseg.errors import BackendError, BackendUnavailable
from rtseg.model_file.load import ModelFile
from rtseg.system.nvidia import driver_version

BUILD = "build one with `rtseg build-engine"


def torch_on_the_gpu(patch: pytest.MonkeyPatch, opened: list[str], *, fails: bool = False) -> None:
    """Let ``auto`` assume that torch can use the GPU. OpenVINO replaces torch, or opening torch fails."""

    def open_torch(model: ModelFile, options: BackendOptions) -> Backend:
        opened.append("torch")
        if fails:
            raise BackendError("no room for torch")
        return OpenVinoBackend(model, options)

    patch.setattr("rtseg.backends.torch.why_not_on_gpu", lambda spec, precision: None)
    patch.setattr("rtseg.backends.torch.TorchBackend", open_torch)


@pytest.fixture
def blue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    monkeypatch.chdir(tmp_path)
    return blue_file(tmp_path)


@pytest.fixture
def machine(blue: ModelFile) -> Iterator[Machine]:
    """A GPU that pycuda and TensorRT-RTX find, but torch does not."""
    with installed(Machine()) as made:
        yield made


class TestWithoutAGpu:
    @pytest.fixture(autouse=True)
    def no_gpu(self) -> None:
        if driver_version() is not None:
            pytest.skip("this machine has an NVIDIA driver")

    def test_it_is_openvino_and_nobody_is_bothered_with_it(self, blue: ModelFile) -> None:
        assert choose(blue.path, BackendOptions()) == Choice("openvino", "no NVIDIA driver")
        with open_backend("auto", blue.path) as backend:
            assert (backend.name, backend.chosen, backend.notice) == ("openvino", "no NVIDIA driver", "")
            assert backend.facts()["chosen"] == "no NVIDIA driver"

    def test_a_gpu_that_is_asked_for_is_refused(self, blue: ModelFile) -> None:
        with pytest.raises(BackendUnavailable, match="no NVIDIA driver found: install one, or use --device cpu"):
            open_backend("auto", blue.path, device="cuda")

    def test_nothing_is_imported_to_find_that_out(self, blue: ModelFile) -> None:
        code = (
            "import sys; from pathlib import Path\n"
            "from rtseg.backends import BackendOptions; from rtseg.backends.select import choose\n"
            f"assert choose(Path({str(blue.path)!r}), BackendOptions()).name == 'openvino'\n"
            "assert not {'torch', 'openvino', 'tensorrt', 'tensorrt_rtx', 'pycuda'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr


class TestWithAGpu:
    def test_an_engine_that_fits_is_taken(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        assert choose(blue.path, BackendOptions()) == Choice("tensorrt", f"{engine} fits the model and the GPU", engine)
        with open_backend("auto", blue.path) as backend:
            assert (backend.name, backend.notice) == ("tensorrt", "")
            assert blues_in(backend.infer(frames_of(5))) == [5]

    def test_the_cpu_that_is_asked_for_is_taken(self, machine: Machine, blue: ModelFile) -> None:
        write_engine(blue)
        assert choose(blue.path, BackendOptions(device="cpu")) == Choice("openvino", "the CPU was asked for")

    def test_without_an_engine_it_is_openvino_and_says_what_to_do(self, machine: Machine, blue: ModelFile) -> None:
        write_engine(blue, runtime_version="1.0")
        with open_backend("auto", blue.path) as backend:
            assert backend.name == "openvino"
            assert BUILD in backend.chosen
            assert "was built by TensorRT-RTX 1.0, this is TensorRT-RTX 1.7.1.116" in backend.chosen
            assert backend.chosen.endswith("torch finds no usable CUDA device")
            assert backend.notice == f"the GPU is not used: {backend.chosen}"

    def test_a_gpu_that_is_asked_for_is_not_replaced(self, machine: Machine, blue: ModelFile) -> None:
        with pytest.raises(BackendUnavailable, match=f"the GPU cannot be used: no engine for wide at 4x6 .*{BUILD}"):
            open_backend("auto", blue.path, device="cuda")

    def test_torch_is_taken_where_it_can_use_the_gpu(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rtseg.backends.torch.why_not_on_gpu", lambda spec, precision: None)
        choice = choose(blue.path, BackendOptions(precision="bf16"))
        assert choice == Choice("torch", "a GPU, but TensorRT does not compute in bf16")

    def test_an_engine_that_cannot_be_opened_is_told_and_torch_taken(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_engine(blue)
        machine.room = 50
        opened: list[str] = []
        torch_on_the_gpu(monkeypatch, opened)
        with open_backend("auto", blue.path) as backend:
            assert opened == ["torch"]
            assert backend.chosen.startswith("a GPU, but tensorrt could not be opened: Fake GeForce has too little")
            assert backend.notice == f"torch runs on the GPU: {backend.chosen.removeprefix('a GPU, but ')}"
            assert blues_in(backend.infer(frames_of(5))) == [5]
        assert not machine.left()

    def test_where_torch_cannot_be_opened_either_both_are_told_and_openvino_taken(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_engine(blue)
        machine.room = 50
        opened: list[str] = []
        torch_on_the_gpu(monkeypatch, opened, fails=True)
        with open_backend("auto", blue.path) as backend:
            assert (opened, backend.name) == (["torch"], "openvino")
            tensorrt, torch = backend.chosen.split("; torch could not be opened: ")
            assert tensorrt.startswith("tensorrt could not be opened: Fake GeForce has too little free memory")
            assert torch == "no room for torch"
            assert backend.notice == f"the GPU is not used: {backend.chosen}"
            assert blues_in(backend.infer(frames_of(5))) == [5]

    @pytest.mark.parametrize("torch_is_there", [False, True])
    def test_a_gpu_that_is_asked_for_is_not_replaced_where_nothing_can_be_opened(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch, torch_is_there: bool
    ) -> None:
        write_engine(blue)
        machine.room = 50
        if torch_is_there:
            torch_on_the_gpu(monkeypatch, [], fails=True)
        why = "torch could not be opened: no room" if torch_is_there else "torch finds no usable CUDA device"
        with pytest.raises(
            BackendUnavailable, match=f"the GPU cannot be used: tensorrt could not be opened: .*; {why}"
        ) as caught:
            open_backend("auto", blue.path, device="cuda")
        assert isinstance(caught.value.__context__, BackendError)

    def test_an_engine_that_cannot_be_opened_is_told_and_openvino_taken(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        write_engine(blue)
        machine.room = 50
        with open_backend("auto", blue.path) as backend:
            assert backend.name == "openvino"
            assert backend.notice.startswith("the GPU is not used: tensorrt could not be opened: Fake GeForce has too")
            assert backend.notice.endswith("; torch finds no usable CUDA device")
            assert blues_in(backend.infer(frames_of(5))) == [5]
        assert not machine.left()

    @pytest.mark.parametrize(("package", "extra"), [("pycuda", "cuda"), ("tensorrt_rtx", "rtx")])
    def test_a_package_that_is_missing_is_told_with_the_command_that_brings_it(
        self, machine: Machine, blue: ModelFile, package: str, extra: str
    ) -> None:
        write_engine(blue)
        with missing(package):
            choice = choose(blue.path, BackendOptions())
        assert choice.name == "openvino"
        assert package in choice.notice
        assert f"pip install 'rtseg[{extra}]'" in choice.notice

    @pytest.mark.parametrize("command", ["predict", "stream"])
    def test_the_commands_say_that_the_gpu_stays_idle(
        self,
        machine: Machine,
        icnet_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        command: str,
    ) -> None:
        from rtseg.system.opencv import cv2

        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 60, 3), np.uint8))
        given = {
            "predict": ["predict", "a.png", "-o", "out", "-m", str(icnet_file)],
            "stream": ["stream", "-s", "a.png", "-o", "null", "-m", str(icnet_file)],
        }
        assert main(given[command]) == 0
        message = " ".join(capsys.readouterr().out.split())
        assert f"the GPU is not used: no engine for tiny at 64x96 in engines/: {BUILD} {icnet_file}`" in message
