"""What the NVIDIA driver says of its GPUs, through the library that comes with it; no CUDA context is made."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "GpuState", "find_driver", "find_gpu", "list_gpus"]

_LIBRARY = "libnvidia-ml.so.1"
_TEXT_BYTES = 96
"""Longest text that the driver is asked for."""
_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR`` of cuda.h."""


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


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that CUDA shows first."""

    name: str
    """E.g. ``NVIDIA GeForce RTX 4090``."""
    target: str
    """Its compute capability, e.g. ``sm_89``."""


def find_driver() -> str | None:
    """Version of the NVIDIA driver, e.g. ``580.65.06``; None where there is none, or no GPU for it.

    Asks NVML, which comes with the driver and answers in milliseconds without making a CUDA context.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    if library.nvmlInit_v2() != 0:
        return None
    try:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        found = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(_TEXT_BYTES)) == 0
        return text.value.decode() if found else None
    finally:
        library.nvmlShutdown()


def find_gpu() -> Gpu | None:
    """The first GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` counts); None without one. Makes no context."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_TEXT_BYTES)
    numbers = (ctypes.c_int(), ctypes.c_int())
    calls: tuple[Callable[[], int], ...] = (
        lambda: library.cuInit(ctypes.c_uint(0)),
        lambda: library.cuDeviceGet(ctypes.byref(device), ctypes.c_int(0)),
        lambda: library.cuDeviceGetName(name, ctypes.c_int(_TEXT_BYTES), device),
        lambda: library.cuDeviceGetAttribute(ctypes.byref(numbers[0]), ctypes.c_int(_MAJOR), device),
        lambda: library.cuDeviceGetAttribute(ctypes.byref(numbers[1]), ctypes.c_int(_MINOR), device),
    )
    if any(call() != 0 for call in calls):  # stops at the first that fails
        return None
    return Gpu(name.value.decode(), f"sm_{numbers[0].value}{numbers[1].value}")
