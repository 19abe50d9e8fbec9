"""Queries the NVIDIA driver about its GPUs, through NVML and the CUDA driver library. Creates no CUDA context."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "GpuState", "driver_version", "find_gpu", "list_gpus", "visible_gpus"]

_TEXT_BYTES = 96
"""Size of the buffers for names and versions."""
_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR`` of cuda.h."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine."""

    name: str
    """E.g. ``NVIDIA L4``."""
    target: str
    """Its compute capability, e.g. ``sm_89``."""


@dataclass(frozen=True, slots=True)
class GpuState(Gpu):
    """A GPU and its current memory use."""

    memory: int
    """Total memory, in bytes."""
    memory_used: int
    """Memory in use by all processes, in bytes."""


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@contextlib.contextmanager
def _open_nvml() -> Iterator[Any]:
    """Yield NVML, which comes with the driver and answers in milliseconds; None without a driver or a GPU."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        library = None
    if library is None or library.nvmlInit_v2() != 0:
        yield None
        return
    try:
        yield library
    finally:
        library.nvmlShutdown()


def driver_version() -> str | None:
    """Version of the NVIDIA driver, e.g. ``580.65.06``; None without a driver or a GPU for it."""
    with _open_nvml() as nvml:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        if nvml is None or nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(_TEXT_BYTES)) != 0:
            return None
        return text.value.decode()


def list_gpus() -> list[GpuState]:
    """All GPUs of the machine, in the order of the driver; empty without a driver or if it does not answer."""
    with _open_nvml() as nvml:
        count = ctypes.c_uint()
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        states = [_gpu_state(nvml, index) for index in range(count.value)]
        return [state for state in states if state is not None]


def _gpu_state(nvml: Any, index: int) -> GpuState | None:
    device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(_TEXT_BYTES), _Memory()
    major, minor = ctypes.c_int(), ctypes.c_int()
    succeeded = _call_all(
        lambda: nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)),
        lambda: nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_TEXT_BYTES)),
        lambda: nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)),
        lambda: nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)),
    )
    if not succeeded:
        return None
    return GpuState(name.value.decode(), f"sm_{major.value}{minor.value}", memory.total, memory.used)


def find_gpu() -> Gpu | None:
    """The first GPU that CUDA shows, as limited by ``CUDA_VISIBLE_DEVICES``; None if there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_TEXT_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    succeeded = _call_all(
        lambda: cuda.cuInit(ctypes.c_uint(0)),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), ctypes.c_int(0)),
        lambda: cuda.cuDeviceGetName(name, ctypes.c_int(_TEXT_BYTES), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), ctypes.c_int(_MAJOR), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), ctypes.c_int(_MINOR), device),
    )
    return Gpu(name.value.decode(), f"sm_{major.value}{minor.value}") if succeeded else None


def visible_gpus() -> list[str]:
    """The GPUs that CUDA shows, each as ``CUDA_VISIBLE_DEVICES`` names it alone; empty if there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if not _call_all(lambda: cuda.cuInit(ctypes.c_uint(0)), lambda: cuda.cuDeviceGetCount(ctypes.byref(count))):
        return []
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count.value)] if limited is None else limited.split(",")
    return [name.strip() for name in names[: count.value]]


def _call_all(*calls: Callable[[], int]) -> bool:
    """Make calls of a C library until one returns an error. Returns whether all succeeded."""
    return all(call() == 0 for call in calls)
