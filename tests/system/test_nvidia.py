from __future__ import annotations

import ctypes
from typing import Any

import pytest

from rtseg.system.nvidia import GpuState, list_gpus

CARDS = [(b"NVIDIA L4", 24 << 30, 1 << 30, (8, 9)), (b"NVIDIA RTX A2000", 12 << 30, 0, (8, 6))]


class FakeNvml:
    """NVML with two cards; ``fails`` is the name of a call that returns an error for the first of them."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.open = 0

    def __call__(self, name: str) -> FakeNvml:
        assert name == "libnvidia-ml.so.1"
        return self

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


def test_every_card_is_told_with_its_memory_and_capability() -> None:
    library = FakeNvml()
    assert list_gpus(library) == [
        GpuState("NVIDIA L4", "sm_89", 24 << 30, 1 << 30),
        GpuState("NVIDIA RTX A2000", "sm_86", 12 << 30, 0),
    ]
    assert library.open == 0


@pytest.mark.parametrize(("fails", "left"), [("nvmlInit_v2", 0), ("nvmlDeviceGetCount_v2", 0)])
def test_a_driver_that_does_not_answer_has_no_cards(fails: str, left: int) -> None:
    library = FakeNvml(fails)
    assert list_gpus(library) == []
    assert library.open == left


def test_a_card_that_fell_off_the_bus_does_not_hide_the_others() -> None:
    assert [gpu.name for gpu in list_gpus(FakeNvml("nvmlDeviceGetHandleByIndex_v2"))] == ["NVIDIA RTX A2000"]


def test_without_a_driver_there_are_no_cards() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert list_gpus(load) == []
