"""CUDA through pycuda, as much of it as a backend needs: one GPU, its memory, streams and events.

Nothing here is made in, or belongs to, the thread that imports it: the context is the primary one of the GPU, which
CUDA's runtime and torch use as well, and it is pushed around each use and popped after it, on whatever thread that is.
"""

from __future__ import annotations

import atexit
import ctypes
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_ulonglong, c_void_p
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.gpu_slots import alone
from rtseg.errors import BackendError, BackendUnavailable
from rtseg.system.nvidia import find_driver

__all__ = ["Device", "Driver", "DriverError", "Graph", "open_device"]

_MIB = 1 << 20
_NON_BLOCKING = 1
"""``CU_STREAM_NON_BLOCKING`` of cuda.h: the stream waits for nobody's default stream, and none waits for it."""
_opening = Lock()
_THREAD_LOCAL = 1
"""``CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`` of cuda.h: a capture concerns the thread that makes it, and no other."""
_OUT_OF_MEMORY = 2
"""``CUDA_ERROR_OUT_OF_MEMORY`` of cuda.h."""


def open_device() -> Device:
    """The first GPU that CUDA shows. Its context is kept until the process ends, as CUDA's runtime keeps it.

    Raises:
        BackendUnavailable: no driver, no pycuda, or no GPU that a program may use.
    """
    with _opening:
        return _device()


@cache
def _device() -> Device:
    if find_driver() is None:
        raise BackendUnavailable("no NVIDIA driver answers: install one, or run the .onnx file with --backend openvino")
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        remedy = "pip install 'rtseg[cuda]' (wants a C++ compiler and the headers of CUDA)"
        raise BackendUnavailable(f"backend 'tensorrt' needs {error.name!r}: {remedy}") from error
    except ImportError as error:
        raise BackendUnavailable(f"pycuda cannot be loaded ({error}): install it again for this driver") from error
    try:
        pycuda.driver.init()
        device = Device(pycuda.driver, pycuda.driver.Device(0), Driver())
    except pycuda.driver.Error as error:
        raise BackendUnavailable(f"CUDA finds no usable GPU ({_reason(error)}): see what nvidia-smi says") from error
    atexit.register(device.let_go)
    return device


class Device:
    """One GPU and its primary context.

    Args:
        driver: the module ``pycuda.driver``, initialised.
        device: of its class ``Device``.
        native: for what pycuda has no call for.
    """

    def __init__(self, driver: Any, device: Any, native: Driver) -> None:
        self._driver = driver
        self._native = native
        self._context = device.retain_primary_context()
        self.name: str = device.name()
        """E.g. ``NVIDIA GeForce RTX 4090``."""
        self.alone = alone
        """See ``rtseg.backends.gpu_slots.alone``."""
        self._is_captured_on = False
        self._released: list[list[Any]] = []
        """Pinned memory that nobody sees any more."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current on this thread. All methods below, and every call of TensorRT, are for within.

        Raises:
            BackendError: from a call of CUDA within.
        """
        try:
            self._context.push()
            try:
                with self._native.beside_captures():
                    yield
            finally:
                self._driver.Context.pop()
        except self._driver.MemoryError as error:
            raise BackendError(self._no_room()) from error
        except self._driver.Error as error:
            raise BackendError(f"CUDA failed on {self.name}: {_reason(error)}") from error
        except DriverError as error:
            told = self._no_room() if error.is_out_of_memory else f"CUDA failed on {self.name}: {error}"
            raise BackendError(told) from error

    def let_go(self) -> None:
        """Release the context, when the process ends: pycuda takes it for another kind by itself, and complains."""
        self._context.detach()

    def _no_room(self) -> str:
        return (
            f"{self.name} has not enough free memory{self._free_memory()}: close what else runs on it, "
            "or give a smaller --size"
        )

    def _free_memory(self) -> str:
        try:
            self._context.push()
            try:
                free, total = self._driver.mem_get_info()
            finally:
                self._driver.Context.pop()
        except self._driver.Error:
            return ""
        return f" ({free // _MIB} of {total // _MIB} MiB are free)"

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Memory of this machine that the GPU copies from and to by itself, uint8.

        It lives as long as the last view of it does, so that an array in a caller's hands never turns to dust.
        """
        with self.alone:
            held = [self._driver.pagelocked_empty(shape, np.uint8)]
        size, address = held[0].nbytes, held[0].ctypes.data
        # The array knows the address alone: what it referred to would die with it, wherever that is, and pycuda can
        # free memory only where its context is current.
        owner = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
        weakref.finalize(owner, self._release, held).atexit = False
        return owner.reshape(shape)

    def _release(self, held: list[Any]) -> None:
        """Free pinned memory; called by whoever dropped the last view of it, or by Python's collector, at any time."""
        with self.alone:
            self._released.append(held)
            if not self._is_captured_on:
                self._free_released()

    def _free_released(self) -> None:
        while self._released:
            with self.active():
                self._released.pop().clear()

    @contextmanager
    def maybe_captured(self) -> Iterator[None]:
        """Within it, a CUDA graph may be captured: ``alone``, and this thread gives no memory back either."""
        with self.alone:
            self._is_captured_on = True
            try:
                yield
            finally:
                self._is_captured_on = False
                self._free_released()

    def memory(self, size: int) -> Any:
        """``size`` bytes on the GPU, of any value; ``int()`` is their address. Call ``free()`` when ``alone``."""
        with self.alone:
            return self._driver.mem_alloc(size)

    def stream(self) -> Any:
        """A queue of work, done in order, beside what other streams do; its ``handle`` is for TensorRT."""
        return self._driver.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """What ``record(stream)`` puts behind the work of a stream, and ``synchronize()`` waits for."""
        return self._driver.Event(self._driver.event_flags.DISABLE_TIMING)

    def upload(self, target: Any, source: NDArray[np.uint8], stream: Any) -> None:
        """Queue a copy of pinned memory to the GPU."""
        self._driver.memcpy_htod_async(int(target), source, stream)

    def download(self, target: NDArray[np.uint8], source: Any, stream: Any) -> None:
        """Queue a copy of the first bytes at ``source`` to pinned memory, as many as fit."""
        self._driver.memcpy_dtoh_async(target, int(source), stream)

    def copy(self, target: Any, source: Any, size: int, stream: Any) -> None:
        """Queue a copy of ``size`` bytes within the GPU."""
        self._driver.memcpy_dtod_async(int(target), int(source), size, stream)

    def capture(self, enqueue: Callable[[], None], handle: int) -> Graph:
        """Record what ``enqueue`` puts on the stream with a handle; nothing of it is run. Call it ``maybe_captured``.

        Raises:
            DriverError: no graph can hold it.
        """
        return self._native.capture(handle, enqueue)

    def clear(self, target: Any, size: int, stream: Any) -> None:
        """Queue the setting of ``size`` bytes to 0."""
        self._driver.memset_d8_async(int(target), 0, size, stream)


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


class DriverError(Exception):
    """A function of cuda.h gave an error. ``Device.active`` makes a ``BackendError`` of it."""

    def __init__(self, text: str, result: int) -> None:
        super().__init__(text)
        self.is_out_of_memory = result == _OUT_OF_MEMORY


class Driver:
    """The library that every program with a CUDA context has loaded."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of cuda.h.

        Raises:
            DriverError: it gave an error; the text is CUDA's own.
        """
        self._check(name, self.try_call(name, *arguments))

    def try_call(self, name: str, *arguments: object) -> int:
        """``call`` whose error, a number other than 0, is the caller's to heed."""
        result: int = getattr(self._library, name)(*arguments)
        return result

    def _check(self, name: str, result: int) -> None:
        if result == 0:
            return
        meaning = c_char_p()
        self.try_call("cuGetErrorString", c_int(result), byref(meaning))
        raise DriverError(f"{name} failed: {meaning.value.decode() if meaning.value else f'error {result}'}", result)

    @contextmanager
    def beside_captures(self) -> Iterator[None]:
        """Within it, captures that other threads have under way forbid this one nothing.

        Else one in CUDA's usual mode, ``GLOBAL``, makes it an error of all other threads to take memory or to wait for
        an event (cuda.h, ``cuThreadExchangeStreamCaptureMode``). An error here is one of earlier work, which the calls
        within meet as well, and tell.
        """
        mode = c_int(_THREAD_LOCAL)
        changed = self.try_call("cuThreadExchangeStreamCaptureMode", byref(mode)) == 0
        try:
            yield
        finally:
            if changed:
                self.try_call("cuThreadExchangeStreamCaptureMode", byref(mode))  # back to what was there before

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Graph:
        """Record what ``enqueue`` puts on the stream with this handle; nothing of it is run.

        Raises:
            DriverError: it does what no graph can hold. The stream is as it was, as where ``enqueue`` raises.
        """
        recorded, executable = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", c_void_p(stream), c_int(_THREAD_LOCAL))
        try:
            try:
                enqueue()
            finally:  # a stream that is never let go of takes no other work
                ended = self.try_call("cuStreamEndCapture", c_void_p(stream), byref(recorded))
            self._check("cuStreamEndCapture", ended)
            self.call("cuGraphInstantiateWithFlags", byref(executable), recorded, c_ulonglong(0))
        finally:
            if recorded:
                self.try_call("cuGraphDestroy", recorded)
        return Graph(self, executable)


class Graph:
    """Work of a stream, recorded with the addresses that it reads and writes. Needs the context to be current.

    Args:
        driver: what recorded it.
        executable: ``CUgraphExec`` of cuda.h.
    """

    def __init__(self, driver: Driver, executable: c_void_p) -> None:
        self._driver = driver
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Do it again, on the stream with this handle.

        Raises:
            DriverError: the driver refuses it.
        """
        self._driver.call("cuGraphLaunch", self._executable, c_void_p(stream))

    def close(self) -> None:
        """Free it, once; a run of it that is under way goes on to its end. An error is one of earlier work."""
        self._driver.try_call("cuGraphExecDestroy", self._executable)
