"""Memory for images that is used again as soon as nobody looks at it."""

from __future__ import annotations

import weakref
from collections import deque
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImagePool"]


class ImagePool:
    """Hands out arrays whose memory comes back by itself when the last reference to them is gone.

    A fresh array of some MB is memory that the system maps page by page while it is filled: for an image of
    1280x720 that takes 1 ms, as long as painting it. An image from here has that cost only the first time.
    One thread takes; the last reference may go on any.
    """

    def __init__(self) -> None:
        self._size = 0
        self._free: deque[bytearray] = deque()

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of ``shape``, uint8, of unknown content: the caller's for as long as it is kept."""
        size = prod(shape)
        if size != self._size:
            self._size = size
            self._free = deque()  # what is still out comes back to the old one, and goes with it
        memory = self._free.pop() if self._free else bytearray(size)
        owner = np.frombuffer(memory, np.uint8)
        # Every view, however it is sliced, keeps `owner` alive: its memory is not an array's.
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)
