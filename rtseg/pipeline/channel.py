"""A bounded queue between two stages."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Channel", "ChannelEnded", "NothingCame"]

T = TypeVar("T")


class ChannelEnded(Exception):
    """The writer of a channel has finished, or the channel is closed."""


class NothingCame(Exception):
    """No item came in time. Not TimeoutError, which the writer of a channel may raise for reasons of its own."""


class Channel(Generic[T]):
    """A queue of at most ``capacity`` items with one writer and one reader. Either may close it.

    When it is full, the writer waits, or the oldest item is dropped and counted. An error of the writer is raised in
    the reader, after the items that came before it.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self.put_count = 0
        """Items put so far, including dropped ones."""
        self.dropped = 0
        """Items dropped because the reader was too slow."""

    def __len__(self) -> int:
        return len(self._items)

    def fill(self, items: Iterable[T], *, drop_oldest: Callable[[], bool] = lambda: False) -> None:
        """Put all ``items``, then end the channel, with their error if they raise one. The body of a stage's thread.

        ``drop_oldest`` is called for every item, because a source may know only at its first frame whether it is live.
        """
        error: BaseException | None = None
        try:
            self._put_all(iter(items), drop_oldest)
        except BaseException as raised:  # noqa: BLE001 - not swallowed: the reader raises it
            error = raised
        self.end(error)

    def _put_all(self, items: Iterator[T], drop_oldest: Callable[[], bool]) -> None:
        try:
            for item in items:
                if not self.put(item, drop_oldest=drop_oldest()):
                    break
        finally:
            # A generator must clean up now, on its own thread.
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def put(self, item: T, *, drop_oldest: bool = False) -> bool:
        """Add an item. Returns False if the reader has closed the channel."""
        with self._changed:
            if drop_oldest:
                while len(self._items) >= self._capacity:
                    self._items.popleft()
                    self.dropped += 1
            else:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                return False
            self._items.append(item)
            self.put_count += 1
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Declare that no more items will come, because of ``error`` if there is one."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading: discard the waiting items and wake both ends."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> T:
        """The next item.

        Raises:
            NothingCame: none came within ``timeout_s`` seconds.
            ChannelEnded: the writer has finished, or the channel is closed.
            BaseException: the error of the writer.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not (self._items or self._ended or self._closed):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise NothingCame(f"no item within {timeout_s} s")
                self._changed.wait(left)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None and not self._closed:
                raise self._error
            raise ChannelEnded

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except ChannelEnded:
                return
            yield item
