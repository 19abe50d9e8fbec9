"""The part of CUDA that the TensorRT backend needs, through pycuda: one GPU, its memory, streams and events.

The backend uses the primary context of the GPU, like CUDA's runtime and torch. It belongs to no thread: it is pushed
before each use and popped afterwards, on any thread.
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

from rtseg.backends.slots import gpu_lock
from rtseg.errors import BackendError, BackendUnavailable

__all__ = ["Device", "Driver", "DriverError", "Graph", "open_device"]

_MIB = 1 << 20
_STREAM_NON_BLOCKING = 1
"""``CU_STREAM_NON_BLOCKING`` of cuda.h: the stream and the default streams do not wait for each other."""
_CAPTURE_MODE_THREAD_LOCAL = 1
"""``CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`` of cuda.h: a capture restricts only the thread that makes it."""
_OUT_OF_MEMORY = 2
"""``CUDA_ERROR_OUT_OF_MEMORY`` of cuda.h."""
_open_lock = Lock()


def open_device() -> Device:
    """Return the first GPU that CUDA lists. Its context is kept until the process ends, as CUDA's runtime does.

    Raises:
        BackendUnavailable: no pycuda, or no GPU that this process may use.
    """
    with _open_lock:
        return _device()


@cache
def _device() -> Device:
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        remedy = "pip install 'rtseg[cuda]' (needs a C++ compiler and the CUDA headers)"
        raise BackendUnavailable(f"backend 'tensorrt' needs {error.name!r}: {remedy}") from error
    except ImportError as error:
        raise BackendUnavailable(f"pycuda cannot be loaded ({error}): install it again for this driver") from error
    try:
        pycuda.driver.init()
        device = Device(pycuda.driver, pycuda.driver.Device(0), Driver())
    except pycuda.driver.Error as error:
        raise BackendUnavailable(f"CUDA finds no usable GPU ({_first_line(error)}): see nvidia-smi") from error
    atexit.register(device.release_context)
    return device


class Device:
    """One GPU and its primary context.

    Args:
        pycuda_driver: the module ``pycuda.driver``, initialized.
        device: a ``pycuda.driver.Device``.
        driver: for the functions that pycuda lacks.
    """

    def __init__(self, pycuda_driver: Any, device: Any, driver: Driver) -> None:
        self._pycuda = pycuda_driver
        self._driver = driver
        self._context = device.retain_primary_context()
        self.name: str = device.name()
        """E.g. ``NVIDIA GeForce RTX 4090``."""
        self.lock = gpu_lock
        """See ``rtseg.backends.slots.gpu_lock``."""
        self._may_capture = False
        self._unused: list[list[Any]] = []
        """Pinned memory that nothing refers to any more, to be freed."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current on this thread. Needed for all other methods, and for every call of TensorRT.

        Raises:
            BackendError: a CUDA call in the ``with`` block failed.
        """
        try:
            self._context.push()
            try:
                with self._driver.tolerate_captures():
                    yield
            finally:
                self._pycuda.Context.pop()
        except self._pycuda.MemoryError as error:
            raise BackendError(self._out_of_memory_message()) from error
        except self._pycuda.Error as error:
            raise BackendError(f"CUDA failed on {self.name}: {_first_line(error)}") from error
        except DriverError as error:
            failed = f"CUDA failed on {self.name}: {error}"
            raise BackendError(self._out_of_memory_message() if error.is_out_of_memory else failed) from error

    def release_context(self) -> None:
        """Release the context at the end of the process. pycuda's own cleanup would print an error."""
        self._context.detach()

    def _out_of_memory_message(self) -> str:
        return (
            f"{self.name} has too little free memory{self._memory_info()}: close other programs that use it, "
            "or give a smaller --size"
        )

    def _memory_info(self) -> str:
        try:
            self._context.push()
            try:
                free, total = self._pycuda.mem_get_info()
            finally:
                self._pycuda.Context.pop()
        except self._pycuda.Error:
            return ""
        return f" ({free // _MIB} of {total // _MIB} MiB are free)"

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Allocate page-locked host memory, uint8, which the GPU copies from and to asynchronously.

        It is freed after the last view of it is gone, so an array that a caller holds stays valid.
        """
        with self.lock:
            memory = [self._pycuda.pagelocked_empty(shape, np.uint8)]
        size, address = memory[0].nbytes, memory[0].ctypes.data
        # The array is built from the address and does not refer to ``memory``: pycuda can free memory only where its
        # context is current, but the last view may die on any thread.
        owner = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
        weakref.finalize(owner, self._release, memory).atexit = False
        return owner.reshape(shape)

    def _release(self, memory: list[Any]) -> None:
        """Free pinned memory. Runs on any thread, at any time, when the last view dies."""
        with self.lock:
            self._unused.append(memory)
            if not self._may_capture:
                self._free_unused()

    def _free_unused(self) -> None:
        while self._unused:
            with self.active():
                self._unused.pop().clear()

    @contextmanager
    def may_capture(self) -> Iterator[None]:
        """Allow a CUDA graph to be captured: hold ``lock``, and delay freeing pinned memory, also on this thread."""
        with self.lock:
            self._may_capture = True
            try:
                yield
            finally:
                self._may_capture = False
                self._free_unused()

    def memory(self, size: int) -> Any:
        """Allocate ``size`` bytes on the GPU; ``int()`` is the address. Call ``free()`` while holding ``lock``."""
        with self.lock:
            return self._pycuda.mem_alloc(size)

    def stream(self) -> Any:
        """Make a stream: a queue of work, independent of other streams. TensorRT takes its ``handle``."""
        return self._pycuda.Stream(_STREAM_NON_BLOCKING)

    def event(self) -> Any:
        """Make an event: ``record(stream)`` marks a point in a stream, ``synchronize()`` waits for it."""
        return self._pycuda.Event(self._pycuda.event_flags.DISABLE_TIMING)

    def upload(self, target: Any, source: NDArray[np.uint8], stream: Any) -> None:
        """Queue a copy of pinned memory to the GPU."""
        self._pycuda.memcpy_htod_async(int(target), source, stream)

    def download(self, target: NDArray[np.uint8], source: Any, stream: Any) -> None:
        """Queue a copy from the GPU that fills the pinned memory ``target``."""
        self._pycuda.memcpy_dtoh_async(target, int(source), stream)

    def copy(self, target: Any, source: Any, size: int, stream: Any) -> None:
        """Queue a copy of ``size`` bytes within the GPU."""
        self._pycuda.memcpy_dtod_async(int(target), int(source), size, stream)

    def clear(self, target: Any, size: int, stream: Any) -> None:
        """Queue setting ``size`` bytes to 0."""
        self._pycuda.memset_d8_async(int(target), 0, size, stream)

    def capture(self, enqueue: Callable[[], None], handle: int) -> Graph:
        """Capture what ``enqueue`` queues on the stream ``handle``, without running it. Call it in ``may_capture``.

        Raises:
            DriverError: the work cannot be captured.
        """
        return self._driver.capture(handle, enqueue)


class Graph:
    """A captured CUDA graph. All methods need the context to be current.

    Args:
        driver: the driver that captured it.
        executable: ``CUgraphExec`` of cuda.h.
    """

    def __init__(self, driver: Driver, executable: c_void_p) -> None:
        self._driver = driver
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Run it on the stream with this handle, on the same memory as when it was captured.

        Raises:
            DriverError: the driver reports an error.
        """
        self._driver.call("cuGraphLaunch", self._executable, c_void_p(stream))

    def close(self) -> None:
        """Free it, once. A run in progress still completes. An error would come from earlier work: ignored."""
        self._driver.try_call("cuGraphExecDestroy", self._executable)


class Driver:
    """The functions of libcuda that pycuda lacks."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of cuda.h.

        Raises:
            DriverError: it returned an error; the text is CUDA's own.
        """
        self._check(name, self.try_call(name, *arguments))

    def try_call(self, name: str, *arguments: object) -> int:
        """Call a function of cuda.h and return its result, 0 for success."""
        result: int = getattr(self._library, name)(*arguments)
        return result

    def _check(self, name: str, result: int) -> None:
        if result == 0:
            return
        text = c_char_p()
        self.try_call("cuGetErrorString", c_int(result), byref(text))
        raise DriverError(f"{name} failed: {text.value.decode() if text.value else f'error {result}'}", result)

    @contextmanager
    def tolerate_captures(self) -> Iterator[None]:
        """Allow calls on this thread that would be errors while another thread captures.

        A thread starts in the mode ``GLOBAL``: then allocating memory or waiting for an event fails while another
        thread captures (cuda.h, ``cuThreadExchangeStreamCaptureMode``). An error of this call would come from earlier
        work; the calls in the ``with`` block report it too.
        """
        mode = c_int(_CAPTURE_MODE_THREAD_LOCAL)
        changed = self.try_call("cuThreadExchangeStreamCaptureMode", byref(mode)) == 0
        try:
            yield
        finally:
            if changed:
                self.try_call("cuThreadExchangeStreamCaptureMode", byref(mode))  # back to the previous mode

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Graph:
        """Capture what ``enqueue`` queues on the stream with this handle, without running it.

        Raises:
            DriverError: the work cannot be captured. The stream stays usable, also if ``enqueue`` raises.
        """
        graph, executable = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", c_void_p(stream), c_int(_CAPTURE_MODE_THREAD_LOCAL))
        try:
            try:
                enqueue()
            finally:  # a stream whose capture is not ended takes no other work
                result = self.try_call("cuStreamEndCapture", c_void_p(stream), byref(graph))
            self._check("cuStreamEndCapture", result)
            self.call("cuGraphInstantiateWithFlags", byref(executable), graph, c_ulonglong(0))
        finally:
            if graph:
                self.try_call("cuGraphDestroy", graph)
        return Graph(self, executable)


class DriverError(Exception):
    """A function of cuda.h returned an error. ``Device.active`` turns it into a ``BackendError``."""

    def __init__(self, text: str, result: int) -> None:
        super().__init__(text)
        self.is_out_of_memory = result == _OUT_OF_MEMORY


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
