"""Image arrays whose memory is reused."""

from __future__ import annotations

import weakref
from collections import deque
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayPool"]


class ArrayPool:
    """Provides arrays and reuses their memory once the last reference to them is gone.

    The operating system maps the memory of a new large array page by page on first write. For an image of 1280x720
    that takes 1 ms, as long as drawing it. A pooled array has this cost only once.

    Call ``empty`` from one thread. The last reference to an array may be dropped on any thread.
    """

    def __init__(self) -> None:
        self._size = 0
        self._free: deque[bytearray] = deque()

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an uninitialised uint8 array. Its memory is reused only after the last reference is gone."""
        size = prod(shape)
        if size != self._size:
            self._size = size
            self._free = deque()  # arrays in use return to the old deque and are freed with it
        memory = self._free.pop() if self._free else bytearray(size)
        owner = np.frombuffer(memory, np.uint8)
        # A bytearray owns the memory, so numpy keeps `owner` as the base of every view, however it is sliced.
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)
