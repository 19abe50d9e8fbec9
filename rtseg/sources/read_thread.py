"""Reads a live source on a thread of its own, so that nobody waits longer for it than he wants to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Event, Thread
from typing import Generic, TypeVar

__all__ = ["NothingRead", "ReadEnded", "ReadThread"]

T = TypeVar("T")

_JOIN_S = 0.2
_LONGEST_WAIT_S = 60.0
"""A wait of infinite length overflows."""


class NothingRead(Exception):
    """No item came in time."""


class ReadEnded(Exception):
    """The reader has ended without an error, and all its items were taken."""


class ReadThread(Generic[T]):
    """Iterates ``items`` on a daemon thread, which alone opens, reads and closes what it reads.

    A read that blocks in C cannot be ended by another thread, and closing it from there crashes the process. So
    ``close`` only asks the thread to end and does not wait for it: it ends with its own timeout, or with the process.

    Args:
        items: called on the thread with an event that is set when it shall end.
        name: of the thread.
        capacity: items that may wait.
        make_room: called with the waiting items if there are ``capacity`` of them, and removes some. If it removes
            none, the thread waits until one is taken.
    """

    def __init__(
        self,
        items: Callable[[Event], Iterator[T]],
        *,
        name: str,
        capacity: int,
        make_room: Callable[[deque[T]], None] = lambda items: None,
    ) -> None:
        self._read = items
        self._capacity = capacity
        self._make_room = make_room
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closing = Event()
        self._ended = False
        self._is_silent = False
        """Whether the last ``get`` waited in vain."""
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            items = self._read(self._closing)
            try:
                for item in items:
                    if not self._put(item):
                        break
            finally:
                close = getattr(items, "close", None)
                if close is not None:
                    close()  # now, on this thread
        except BaseException as raised:  # noqa: BLE001 - not swallowed: ``get`` raises it
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            while len(self._items) >= self._capacity and not self._closing.is_set():
                self._make_room(self._items)
                if len(self._items) >= self._capacity:
                    self._changed.wait()
            self._items.append(item)
            self._changed.notify_all()
            return not self._closing.is_set()

    def get(self, timeout_s: float) -> T:
        """The next item.

        Raises:
            NothingRead: none came within ``timeout_s`` seconds.
            ReadEnded: there are no more, or the thread was closed.
            BaseException: the error of ``items``, after the items before it.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not (self._items or self._ended or self._closing.is_set()):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    self._is_silent = True
                    raise NothingRead
                self._changed.wait(min(left_s, _LONGEST_WAIT_S))
            if self._closing.is_set():
                raise ReadEnded
            if self._items:
                item = self._items.popleft()
                self._is_silent = False
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise ReadEnded

    def has_more(self, timeout_s: float = 0.0) -> bool:
        """Whether another item waits already, or comes within ``timeout_s`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._items) or self._ended, timeout_s) and bool(self._items)

    def change_waiting(self, change: Callable[[deque[T]], int]) -> int:
        """Call ``change`` with the waiting items while no other thread can change them; return its result."""
        with self._changed:
            result = change(self._items)
            self._changed.notify_all()
            return result

    def close(self) -> None:
        """Ask the thread to end. It is waited for only as long as a read that is not blocked takes."""
        self.interrupt()
        if not self._is_silent:  # otherwise it is blocked
            self._thread.join(_JOIN_S)

    def interrupt(self) -> None:
        """Ask the thread to end and wake ``get``, from any thread."""
        self._closing.set()
        with self._changed:
            self._items.clear()
            self._changed.notify_all()
