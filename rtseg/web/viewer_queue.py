"""Frames on their way to one viewer."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Lock

from rtseg.sinks.broadcast import LiveFrame

__all__ = ["ViewerQueue"]

_CAPACITY = 12
"""Frames of one source that may wait: half a second."""


class ViewerQueue:
    """A bounded queue from the threads of the runs to the event loop that serves the viewers.

    A viewer that falls behind loses all that waits of a source, and goes on with its next key frame. ``put`` never
    waits, so that no viewer can slow a run or another viewer.

    Args:
        capacity: frames of one source that may wait.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._items: deque[tuple[int, LiveFrame]] = deque()
        self._waiting: dict[int, int] = {}
        """How many frames of each source wait."""
        self._without_key: set[int] = set()
        """Sources whose next frame for this viewer must be a key frame."""
        self._wake = asyncio.Event()
        self.dropped = 0
        """Frames that were left out because the viewer was too slow."""

    def start(self, source: int) -> None:
        """Begin with the next key frame of ``source``."""
        with self._lock:
            self._without_key.add(source)
            self._waiting[source] = 0

    def put(self, source: int, frame: LiveFrame) -> bool:
        """Add a frame; may be called from any thread.

        Returns:
            Whether ``wake`` must be called.
        """
        with self._lock:
            if self._waiting.get(source, 0) >= self._capacity:
                self._forget(source)
            if frame.is_key:
                self._without_key.discard(source)
            if source in self._without_key:
                self.dropped += 1
                return False
            self._items.append((source, frame))
            self._waiting[source] = self._waiting.get(source, 0) + 1
            return len(self._items) == 1

    def wake(self) -> None:
        """Let ``get`` look again. Call it on the event loop."""
        self._wake.set()

    def _forget(self, source: int) -> None:
        kept = [item for item in self._items if item[0] != source]
        self.dropped += len(self._items) - len(kept)
        self._items = deque(kept)
        self._waiting[source] = 0
        self._without_key.add(source)

    async def get(self) -> tuple[int, LiveFrame]:
        """Wait for the next frame; returns the number of its source as well."""
        while True:
            with self._lock:
                if self._items:
                    source, frame = self._items.popleft()
                    self._waiting[source] -= 1
                    return source, frame
                self._wake.clear()
            await self._wake.wait()
