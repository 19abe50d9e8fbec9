from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from rtseg.system.nvidia import Gpu, GpuState, driver_version, find_gpu, list_gpus, visible_gpus

CARDS = [(b"NVIDIA L4", 24 << 30, 1 << 30, (8, 9)), (b"NVIDIA RTX A2000", 12 << 30, 0, (8, 6))]


class FakeNvml:
    """NVML with two cards; ``fails`` is the name of a call that returns an error for the first of them."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.fails and not (arguments and getattr(arguments[0], "value", None) == 1):
                return 9
            return int(getattr(FakeNvml, f"do_{name}")(self, *arguments) or 0)

        return call

    def do_nvmlInit_v2(self) -> None:  # noqa: N802
        self.open += 1

    def do_nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def do_nvmlDeviceGetCount_v2(self, count: Any) -> None:  # noqa: N802
        count._obj.value = len(CARDS)

    def do_nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, device: Any) -> None:  # noqa: N802
        device._obj.value = index.value

    def do_nvmlDeviceGetName(self, device: ctypes.c_void_p, name: Any, length: ctypes.c_uint) -> None:  # noqa: N802
        name.value = CARDS[device.value or 0][0]
        assert length.value >= len(name.value)

    def do_nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> None:  # noqa: N802
        _, total, used, _ = CARDS[device.value or 0]
        memory._obj.total, memory._obj.free, memory._obj.used = total, total - used, used

    def do_nvmlDeviceGetCudaComputeCapability(self, device: ctypes.c_void_p, major: Any, minor: Any) -> None:  # noqa: N802
        major._obj.value, minor._obj.value = CARDS[device.value or 0][3]


class FakeLibrary:
    """A library of the driver. ``answers`` write the requested values; the function ``fails`` returns an error."""

    def __init__(self, fails: str = "", **answers: Callable[..., None]) -> None:
        self.called: list[str] = []
        self._fails, self._answers = fails, answers

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.called.append(name)
            if name == self._fails:
                return 1
            self._answers.get(name, lambda *ignored: None)(*arguments)
            return 0

        return call


def use_library(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Let ``ctypes`` load ``library``; without one, no library can be loaded."""

    def load(name: str) -> Any:
        if library is None:
            raise OSError(f"{name}: cannot open shared object file")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)


class TestListGpus:
    def test_every_card_is_listed_with_its_memory_and_capability(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = FakeNvml()
        use_library(monkeypatch, library)
        assert list_gpus() == [
            GpuState("NVIDIA L4", "sm_89", 24 << 30, 1 << 30),
            GpuState("NVIDIA RTX A2000", "sm_86", 12 << 30, 0),
        ]
        assert library.open == 0

    @pytest.mark.parametrize("fails", ["nvmlInit_v2", "nvmlDeviceGetCount_v2"])
    def test_a_driver_that_does_not_answer_has_no_cards(self, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
        library = FakeNvml(fails)
        use_library(monkeypatch, library)
        assert list_gpus() == []
        assert library.open == 0

    def test_a_card_that_fell_off_the_bus_does_not_hide_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_library(monkeypatch, FakeNvml("nvmlDeviceGetHandleByIndex_v2"))
        assert [gpu.name for gpu in list_gpus()] == ["NVIDIA RTX A2000"]

    def test_without_a_driver_there_are_no_cards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_library(monkeypatch, None)
        assert list_gpus() == []


class TestDriverVersion:
    def library(self, fails: str = "") -> FakeLibrary:
        def version(text: Any, length: Any) -> None:
            assert length.value == len(text)
            text.value = b"580.65.06"

        return FakeLibrary(fails, nvmlSystemGetDriverVersion=version)

    def test_the_version_is_read_and_nvml_is_shut_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = self.library()
        use_library(monkeypatch, library)
        assert driver_version() == "580.65.06"
        assert library.called == ["nvmlInit_v2", "nvmlSystemGetDriverVersion", "nvmlShutdown"]

    @pytest.mark.parametrize("library", [None, "nvmlInit_v2", "nvmlSystemGetDriverVersion"])
    def test_none_without_the_library_or_if_it_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, library: str | None
    ) -> None:
        use_library(monkeypatch, None if library is None else self.library(library))
        assert driver_version() is None


class TestFindGpu:
    def library(self, fails: str = "") -> FakeLibrary:
        def name(text: Any, length: Any, device: Any) -> None:
            text.value = b"NVIDIA GeForce RTX 4090"

        def attribute(number: Any, which: Any, device: Any) -> None:
            number._obj.value = {75: 8, 76: 9}[which.value]

        return FakeLibrary(fails, cuDeviceGetName=name, cuDeviceGetAttribute=attribute)

    def test_name_and_capability_are_returned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_library(monkeypatch, self.library())
        assert find_gpu() == Gpu("NVIDIA GeForce RTX 4090", "sm_89")

    @pytest.mark.parametrize("fails", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
    def test_none_if_a_cuda_call_fails_and_no_further_call(self, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
        library = self.library(fails)
        use_library(monkeypatch, library)
        assert find_gpu() is None
        assert library.called[-1] == fails
        assert library.called.count(fails) == 1

    def test_none_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_library(monkeypatch, None)
        assert find_gpu() is None


class TestVisibleGpus:
    def library(self, fails: str = "") -> FakeLibrary:
        def count(number: Any) -> None:
            number._obj.value = 2

        return FakeLibrary(fails, cuDeviceGetCount=count)

    @pytest.mark.parametrize(
        ("limited", "names"), [(None, ["0", "1"]), ("2, 5", ["2", "5"]), ("GPU-a,GPU-b,-1,3", ["GPU-a", "GPU-b"])]
    )
    def test_each_is_named_as_the_variable_names_it(
        self, monkeypatch: pytest.MonkeyPatch, limited: str | None, names: list[str]
    ) -> None:
        use_library(monkeypatch, self.library())
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if limited is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", limited)
        assert visible_gpus() == names

    @pytest.mark.parametrize("fails", [None, "cuInit", "cuDeviceGetCount"])
    def test_none_without_the_library_or_if_it_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, fails: str | None
    ) -> None:
        use_library(monkeypatch, None if fails is None else self.library(fails))
        assert visible_gpus() == []
