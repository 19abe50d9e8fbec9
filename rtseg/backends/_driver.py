"""What pycuda has no call for, through the driver's own library: CUDA graphs, and not to mind those of others."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_ulonglong, c_void_p

__all__ = ["Driver", "DriverError", "Graph"]

_THREAD_LOCAL = 1
"""``CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`` of cuda.h: a capture concerns the thread that makes it, and no other."""
_OUT_OF_MEMORY = 2
"""``CUDA_ERROR_OUT_OF_MEMORY`` of cuda.h."""


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
