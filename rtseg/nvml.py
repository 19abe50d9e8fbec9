"""What the NVIDIA driver says of its GPUs, through the library that comes with it; no CUDA context is made."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["GpuState", "list_gpus"]

_LIBRARY = "libnvidia-ml.so.1"
_TEXT_BYTES = 96


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU, now."""

    name: str
    """E.g. ``NVIDIA L4``."""
    target: str
    """Its compute capability, e.g. ``sm_89``."""
    memory: int
    """Bytes that it has."""
    memory_used: int
    """Bytes that are taken, by whomever."""


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def list_gpus(load: Callable[[str], Any] = ctypes.CDLL) -> list[GpuState]:
    """All GPUs of the machine, in the driver's order; none where there is no driver or it does not answer.

    Args:
        load: opens a shared library by its name, or raises OSError.
    """
    try:
        library = load(_LIBRARY)
    except OSError:
        return []
    if library.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = [_state(library, index) for index in range(count.value)]
        return [gpu for gpu in found if gpu is not None]
    finally:
        library.nvmlShutdown()


def _state(library: Any, index: int) -> GpuState | None:
    device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(_TEXT_BYTES), _Memory()
    major, minor = ctypes.c_int(), ctypes.c_int()
    calls: tuple[Callable[[], int], ...] = (
        lambda: library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)),
        lambda: library.nvmlDeviceGetName(device, name, ctypes.c_uint(_TEXT_BYTES)),
        lambda: library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)),
        lambda: library.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)),
    )
    if any(call() != 0 for call in calls):  # stops at the first that fails
        return None
    return GpuState(name.value.decode(), f"sm_{major.value}{minor.value}", memory.total, memory.used)
