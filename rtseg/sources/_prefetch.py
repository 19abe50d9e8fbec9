"""Work that is read and decoded ahead on threads, and delivered in order; bounded in bytes, and never waiting for ever.

    announce ──► read ──► decode ──► next()
    (the kernel) (slots)  (threads)  (the caller, in order)

Any thread takes any step. How many may be in the first two, which touch the storage, is up to the ``Pace``.
"""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from threading import Condition, Thread, current_thread
from types import TracebackType
from typing import Generic, Self, TypeVar

from rtseg.sources._pace import Pace

__all__ = ["Job", "Outcome", "Prefetch", "Slot", "StallError", "StorageStalls"]

T = TypeVar("T")
_Step = Callable[[], bool]
"""Of a thread; tells whether it is to go on."""

_TICK_S = 0.1
"""Longest time between two looks at what may have stalled."""
_MOST_STALLED = 3
"""So many reads in a row that do not come back: the storage is gone; each more would cost a time-out and a thread."""
_LEAVE_S = 0.5
"""How long a thread in a read is waited for at the end."""


class StallError(TimeoutError):
    """One read did not come back."""


class StorageStalls(TimeoutError):
    """Several reads in a row did not come back."""


class Slot:
    """The right to use the storage, while a job reads."""

    def __init__(self, give_back: Callable[[], None], alive: Callable[[], None]) -> None:
        self.give_back = give_back
        """To be called where the rest of a read is off that storage; at most once."""
        self.alive = alive
        """To be called when data came: the time-out begins anew."""


class Job(ABC, Generic[T]):
    """One item of work. The steps are called once each, in order, by one thread at a time."""

    name: str
    """As a report calls it."""
    needs: int | None = None
    """Bytes that the result will take, known (if at all) after ``read``."""

    def announce(self) -> None:
        """Tell the kernel that ``read`` comes soon. Left out where that is of no use."""

    @abstractmethod
    def read(self, slot: Slot) -> int:
        """Get from the storage what ``decode`` needs; returns how many bytes of it are held."""

    @abstractmethod
    def decode(self) -> tuple[T, int]:
        """The result, and how many bytes it takes. Touches no storage."""

    def discard(self) -> None:
        """Let go of files: what is not done yet will not be."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome(Generic[T]):
    """What became of a job: its result, or the error that ended it."""

    job: Job[T]
    value: T | None
    error: Exception | None


class _State(Enum):
    ANNOUNCING = "announcing"
    ANNOUNCED = "announced"
    READING = "reading"
    READ = "read"
    DECODING = "decoding"
    DONE = "done"


@dataclass(slots=True, eq=False)
class _Item(Generic[T]):
    index: int
    job: Job[T]
    state: _State
    since_s: float = 0.0
    """When the step in the storage began, or last gave data."""
    held: int = 0
    """Bytes that are reserved or held."""
    has_slot: bool = False
    abandoned: bool = False
    outcome: Outcome[T] | None = None


class Prefetch(Generic[T]):
    """Does jobs ahead. Iterate it once, by one thread; leaving ``with`` ends the threads.

    Args:
        jobs: what is to be done, in order; taken as they are needed.
        pace: how the storage is read.
        budget: bytes that may be held of what is read and decoded ahead. A single job may take more.
        timeout_s: longest time that a step in the storage may go without data.
        most: jobs that may be ahead of what is delivered; the budget alone bounds them unless given.
        stopped: asked ten times a second; ends the iteration.
        name: of the threads.
    """

    def __init__(
        self,
        jobs: Iterable[Job[T]],
        *,
        pace: Pace,
        budget: int,
        timeout_s: float,
        most: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        name: str = "rtseg-pictures",
    ) -> None:
        self._jobs = iter(jobs)
        self._pace = pace
        self._budget = budget
        self._timeout_s = timeout_s
        self._most = most
        self._stopped = stopped
        self._name = name
        self._changed = Condition()
        self._line: deque[_Item[T]] = deque()  # everything that has not been delivered, in order
        self._announced: list[tuple[int, _Item[T]]] = []
        self._read: list[tuple[int, _Item[T]]] = []
        self._touching: dict[Thread, _Item[T]] = {}  # who is in a step that touches the storage
        self._count = 0
        self._announcing = self._slots = 0
        self._used = self._holders = 0
        self._expected = budget  # until the first is known, one at a time
        self._stalled_in_a_row = 0
        self._exhausted = self._closed = False
        self._threads: list[Thread] = []
        self.left_behind = 0
        """Threads that sit in a read that does not come back."""
        self.most_held = 0
        """Bytes, at their highest."""

    def __iter__(self) -> Iterator[Outcome[T]]:
        """What became of each job, in order.

        Raises:
            StorageStalls: several reads in a row did not come back.
        """
        for _ in range(self._pace.threads):
            self._start_thread()
        while True:
            with self._changed:
                while not (self._line and self._line[0].state is _State.DONE):
                    if self._stopped() or self._closed or (self._exhausted and not self._line):
                        return
                    self._abandon_stalled()
                    self._changed.wait(_TICK_S)
                item = self._line.popleft()
                self._hold(item, 0)
                self._changed.notify_all()
            assert item.outcome is not None, "what is done has an outcome"
            yield item.outcome

    def close(self) -> None:
        """End every thread and drop what is left. One that sits in a read is waited for shortly, then left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline_s = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            with self._changed:
                reads = thread in self._touching
            thread.join(max(0.0, deadline_s - time.monotonic()) if reads else None)
            self.left_behind += thread.is_alive()
        self._threads.clear()
        with self._changed:
            for item in self._line:
                if item.state not in (_State.ANNOUNCING, _State.READING):  # those are let go of by their own thread
                    item.job.discard()
            self._line.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_thread(self) -> None:
        # A daemon: a read that never comes back must not keep the process from ending.
        thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                step = self._next_step()
                while step is None:
                    self._changed.wait()
                    step = self._next_step()
            if not step():
                return

    def _next_step(self) -> _Step | None:
        """What a free thread does now; None: wait. Called with the lock held."""
        if self._closed:
            return _end
        from_storage, from_memory = self._storage_step, self._decode_step
        # A disk that turns must not wait for anyone; elsewhere what is read is best decoded while the caches hold it.
        for choose in (from_storage, from_memory) if self._pace.serial else (from_memory, from_storage):
            step = choose()
            if step is not None:
                return step
        under_way = self._slots or self._announcing or self._announced or self._read
        return _end if self._exhausted and not under_way else None

    def _storage_step(self) -> _Step | None:
        if self._slots >= self._pace.readers:
            return None
        full = self._most is not None and len(self._line) >= self._most
        if not (self._exhausted or full) and len(self._announced) + self._announcing < self._pace.ahead:
            taken = self._take()
            if taken is not None and taken.state is _State.ANNOUNCING:
                self._touch(taken)
                return partial(self._announce, taken)
        if not self._announced or (self._holders and self._used + self._expected > self._budget):
            return None
        item = heapq.heappop(self._announced)[1]
        item.state = _State.READING
        self._hold(item, self._expected)
        self._touch(item)
        return partial(self._fetch, item)

    def _take(self) -> _Item[T] | None:
        """The next job, in line."""
        job = next(self._jobs, None)
        if job is None:
            self._exhausted = True
            self._changed.notify_all()
            return None
        state = _State.ANNOUNCING if self._pace.announces else _State.ANNOUNCED
        item = _Item(self._count, job, state)
        self._count += 1
        self._line.append(item)
        if state is _State.ANNOUNCED:
            heapq.heappush(self._announced, (item.index, item))
        else:
            self._announcing += 1
        return item

    def _decode_step(self) -> _Step | None:
        if not self._read:
            return None
        item = self._read[0][1]
        if self._used > self._budget and item is not self._line[0]:
            return None
        heapq.heappop(self._read)
        item.state = _State.DECODING
        return partial(self._decode, item)

    def _touch(self, item: _Item[T]) -> None:
        item.since_s = time.monotonic()
        item.has_slot = True
        self._slots += 1
        self._touching[current_thread()] = item

    def _announce(self, item: _Item[T]) -> bool:
        error = self._in_storage(item, item.job.announce)
        with self._changed:
            if self._came_late(item):
                return False
            self._announcing -= 1
            if error is not None:
                self._finish(item, None, error)
            else:
                item.state = _State.ANNOUNCED
                heapq.heappush(self._announced, (item.index, item))
            self._changed.notify_all()
        return True

    def _fetch(self, item: _Item[T]) -> bool:
        held = 0

        def read() -> None:
            nonlocal held
            held = item.job.read(Slot(lambda: self._give_back(item), lambda: _breathe(item)))

        error = self._in_storage(item, read)
        with self._changed:
            if self._came_late(item):
                return False
            self._stalled_in_a_row = 0
            if error is not None:
                self._finish(item, None, error)
            else:
                needs = item.job.needs if item.job.needs is not None else self._expected - held
                self._hold(item, held + max(0, needs))
                if item.job.needs is not None:
                    self._expect(item.held)
                item.state = _State.READ
                heapq.heappush(self._read, (item.index, item))
            self._changed.notify_all()
        return True

    def _in_storage(self, item: _Item[T], step: Callable[[], None]) -> Exception | None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the outcome
            return error
        finally:
            with self._changed:
                self._touching.pop(current_thread(), None)
                self._give_back(item)
        return None

    def _give_back(self, item: _Item[T]) -> None:
        with self._changed:
            if item.has_slot:
                item.has_slot = False
                self._slots -= 1
                self._changed.notify_all()

    def _came_late(self, item: _Item[T]) -> bool:
        """Whether nobody waits for this any more; another thread has taken the place of this one."""
        if item.abandoned or self._closed:
            item.job.discard()
        return item.abandoned

    def _decode(self, item: _Item[T]) -> bool:
        value, error, size = None, None, 0
        try:
            value, size = item.job.decode()
        except Exception as raised:  # noqa: BLE001 - not swallowed: it is the outcome
            error = raised
        with self._changed:
            self._finish(item, value, error, size)
            if error is None and item.job.needs is None:
                self._expect(size)
            self._changed.notify_all()
        return True

    def _finish(self, item: _Item[T], value: T | None, error: Exception | None, size: int = 0) -> None:
        item.outcome = Outcome(item.job, value, error)
        item.state = _State.DONE
        self._hold(item, size)

    def _hold(self, item: _Item[T], size: int) -> None:
        self._holders += (size > 0) - (item.held > 0)
        self._used += size - item.held
        item.held = size
        self.most_held = max(self.most_held, self._used)

    def _expect(self, size: int) -> None:
        """A large picture makes careful for the next ten or so."""
        first = self._expected == self._budget
        self._expected = size if first else max(size, int(0.9 * self._expected))

    def _abandon_stalled(self) -> None:
        """Give up what has been silent for too long; a new thread takes the place of the one that sits in it."""
        now = time.monotonic()
        for thread, item in list(self._touching.items()):
            if now - item.since_s < self._timeout_s:
                continue
            if item.state is _State.ANNOUNCING:
                self._announcing -= 1
            self._touching.pop(thread)
            self._threads.remove(thread)
            self._give_back(item)
            item.abandoned = True
            self.left_behind += 1
            self._stalled_in_a_row += 1
            self._finish(item, None, StallError(f"did not come within {self._timeout_s:g} s"))
            if self._stalled_in_a_row >= _MOST_STALLED:
                raise StorageStalls(f"{_MOST_STALLED} files in a row did not come within {self._timeout_s:g} s each")
            self._start_thread()
        self._changed.notify_all()


def _end() -> bool:
    return False


def _breathe(item: _Item[T]) -> None:
    item.since_s = time.monotonic()
