"""What pycuda has no call for, through the driver's own library: CUDA graphs, and peace from those of other threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_ulonglong, c_void_p

from rtseg.errors import BackendError

__all__ = ["Driver", "Graph"]

_THREAD_LOCAL = 1
"""``CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`` of cuda.h: a capture concerns the thread that makes it, and no other."""


class Driver:
    """The library that every program with a CUDA context has loaded."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of cuda.h.

        Raises:
            BackendError: it gave an error; the text is CUDA's own.
        """
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, result: int) -> None:
        if result == 0:
            return
        meaning = c_char_p()
        self._library.cuGetErrorString(c_int(result), byref(meaning))
        raise BackendError(f"{name} failed: {meaning.value.decode() if meaning.value else f'error {result}'}")

    @contextmanager
    def beside_captures(self) -> Iterator[None]:
        """Within it, captures that other threads have under way forbid this one nothing.

        Else one in CUDA's usual mode, ``GLOBAL``, makes it an error of all other threads to take memory or to wait for
        an event (cuda.h, ``cuThreadExchangeStreamCaptureMode``).
        """
        mode = c_int(_THREAD_LOCAL)
        self.call("cuThreadExchangeStreamCaptureMode", byref(mode))
        try:
            yield
        finally:
            self.call("cuThreadExchangeStreamCaptureMode", byref(mode))  # back to the one that was there before

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Graph:
        """Record what ``enqueue`` puts on the stream with this handle; nothing of it is run.

        Raises:
            BackendError: from ``enqueue``, or it does what no graph can hold. The stream is as it was.
        """
        recorded, executable = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", c_void_p(stream), c_int(_THREAD_LOCAL))
        try:
            try:
                enqueue()
            finally:  # a stream that is never let go of takes no other work
                ended = self._library.cuStreamEndCapture(c_void_p(stream), byref(recorded))
            self._check("cuStreamEndCapture", ended)
            self.call("cuGraphInstantiateWithFlags", byref(executable), recorded, c_ulonglong(0))
        finally:
            if recorded:
                self._library.cuGraphDestroy(recorded)
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
            BackendError: the driver refuses it.
        """
        self._driver.call("cuGraphLaunch", self._executable, c_void_p(stream))

    def close(self) -> None:
        """Free it, once; a run of it that is under way goes on to its end."""
        self._driver.call("cuGraphExecDestroy", self._executable)
