"""Work that is read and decoded ahead on threads, and delivered in order; bounded in bytes, and never waiting for ever.

    announce ──► read ──► decode ──► next()
    (the kernel) (slots)  (threads)  (the caller, in order)

Any thread takes any step. How many may be in the first two, which touch the storage, and how many in the third, which
takes a processor, is up to the ``ReadProfile``.

Whoever changes what may be done wakes one thread at most, and a thread that sees more than it takes wakes the next: to
wake all of them for every image costs a tenth of the images. Of those that wait the last to have come is woken
first, so that no more of them work, and keep memory for it, than are needed.
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
from threading import Condition, RLock, Thread, current_thread
from types import TracebackType
from typing import Generic, Self, TypeVar

from rtseg.image_io.read_profile import ReadProfile

__all__ = ["Job", "Outcome", "Prefetch", "Slot", "StallError", "StorageStalls"]

T = TypeVar("T")
_Conclusion = Callable[[], bool]
"""What a step changes, called with the lock held; tells whether the thread is to go on."""
_Step = Callable[[], _Conclusion]
"""What a thread does without the lock."""
_TICK_S = 0.1
"""Longest time between two looks at what may have stalled."""
_MOST_STALLED = 3
"""So many reads in a row that do not come back: the storage is gone; each more would cost a time-out and a thread."""
_MOMENT_S = 1.0
"""What is overdue gets so much longer."""
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
    """Bytes that ``decode`` takes at its highest, the result among them; known (if at all) after ``read``."""

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
    error: BaseException | None


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
    overdue_s: float | None = None
    """When it was first seen to be silent for too long."""
    held: int = 0
    """Bytes that are reserved or held."""
    has_slot: bool = False
    abandoned: bool = False
    outcome: Outcome[T] | None = None


class Prefetch(Generic[T]):
    """Does jobs ahead. Iterate it once, by one thread; leaving ``with`` ends the threads.

    Args:
        jobs: what is to be done, in order; taken as they are needed, by one thread at a time, while all others wait.
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
        pace: ReadProfile,
        budget: int,
        timeout_s: float,
        most: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        name: str = "rtseg-images",
    ) -> None:
        self._jobs = iter(jobs)
        self._pace = pace
        self._budget = budget
        self._timeout_s = timeout_s
        self._most = most
        self._stopped = stopped
        self._name = name
        self._lock = RLock()
        self._head_done = Condition(self._lock)  # the caller waits for it, or for the end
        self._idle: list[Condition] = []  # each of one thread, the last to have come at the end
        self._woken = 0  # threads that were woken and have not looked yet
        self._line: deque[_Item[T]] = deque()  # everything that has not been delivered, in order
        self._announced: list[tuple[int, _Item[T]]] = []
        self._read: list[tuple[int, _Item[T]]] = []
        self._touching: dict[Thread, _Item[T]] = {}  # who is in a step that touches the storage
        self._count = 0
        self._announcing = self._slots = self._decoding = 0
        self._used = self._holders = 0
        self._expected = budget  # until the first is known, one at a time
        self._stalled_in_a_row = 0
        self._exhausted = self._closed = False
        self._fault: BaseException | None = None  # of the jobs themselves
        self._threads: list[Thread] = []
        self.left_behind = 0
        """Threads that sit in a read that does not come back."""
        self.most_held = 0
        """Bytes, at their highest."""

    def __iter__(self) -> Iterator[Outcome[T]]:
        """What became of each job, in order. An error of ``jobs`` is raised after those before it.

        Raises:
            StorageStalls: several reads in a row did not come back.
        """
        for _ in range(self._pace.threads):
            self._start_thread()
        while (outcome := self._next_outcome()) is not None:
            yield outcome
        if self._fault is not None:
            raise self._fault

    def _next_outcome(self) -> Outcome[T] | None:
        with self._lock:
            while not (self._line and self._line[0].state is _State.DONE):
                if self._stopped() or self._closed or (self._exhausted and not self._line):
                    return None
                self._head_done.wait(_TICK_S)
                self._abandon_stalled()
            item = self._line.popleft()
            self._hold(item, 0)
            self._wake_one()
        return item.outcome

    def close(self) -> None:
        """End every thread and drop what is left. One that sits in a read is waited for shortly, then left behind."""
        with self._lock:
            self._closed = True
            self._head_done.notify()
            for turn in self._idle:
                turn.notify()
        deadline_s = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            with self._lock:
                reads = thread in self._touching
            thread.join(max(0.0, deadline_s - time.monotonic()) if reads else None)
            self.left_behind += thread.is_alive()
        self._threads.clear()
        with self._lock:
            for item in self._line:
                by_its_thread = item.abandoned or item.state in (_State.ANNOUNCING, _State.READING)
                if not by_its_thread:
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
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        turn = Condition(self._lock)
        conclude: _Conclusion = _go_on
        while True:
            with self._lock:
                step = self._await_step(turn) if conclude() else None
                if step is None:
                    return
                self._wake_one()
            conclude = step()

    def _await_step(self, turn: Condition) -> _Step | None:
        """What a free thread does now; None: it ends. Called with the lock held."""
        while not self._closed:
            step = self._next_step()
            if step is not None:
                return step
            self._idle.append(turn)
            turn.wait()
            self._woken -= 1
        return None

    def _wake_one(self) -> None:
        """Have one thread look, where there is something to do; it is to be called after every change with the lock
        held, except by a thread that looks itself.

        So, whenever the lock is free, nothing can be done, or nobody is idle, or somebody is on the way.
        """
        if self._idle and not self._woken and (self._may_decode() or self._may_take() or self._may_read()):
            self._woken += 1
            self._idle.pop().notify()

    def _next_step(self) -> _Step | None:
        from_storage, from_memory = self._storage_step, self._decode_step
        # A disk that turns must not wait for anyone; elsewhere what is read is best decoded while the caches hold it.
        first, second = (from_storage, from_memory) if self._pace.serial else (from_memory, from_storage)
        return first() or second()

    def _may_decode(self) -> bool:
        if not self._read or self._decoding >= self._pace.decoders:
            return False
        return self._used <= self._budget or self._is_head(self._read[0][1])

    def _may_take(self) -> bool:
        full = self._most is not None and len(self._line) >= self._most
        known = len(self._announced) + self._announcing
        return not (self._exhausted or full) and known < self._pace.ahead and self._slots < self._pace.readers

    def _may_read(self) -> bool:
        if not self._announced or self._slots >= self._pace.readers:
            return False
        # Files are announced at once and so out of order: the room may be full of what comes after the head.
        if not self._holders or self._is_head(self._announced[0][1]):
            return True
        # A disk that turns goes on; elsewhere the kernel keeps what is to come, and what has just been read is decoded
        # out of the caches.
        wanted = self._pace.serial or len(self._read) < self._pace.readers
        return wanted and self._used + self._expected <= self._budget

    def _is_head(self, item: _Item[T]) -> bool:
        return bool(self._line) and item is self._line[0]

    def _storage_step(self) -> _Step | None:
        if self._may_take():
            taken = self._take()
            if taken is not None and taken.state is _State.ANNOUNCING:
                self._touch(taken)
                return partial(self._announce, taken)
        if not self._may_read():
            return None
        item = heapq.heappop(self._announced)[1]
        item.state = _State.READING
        self._hold(item, self._expected)
        self._touch(item)
        return partial(self._fetch, item)

    def _take(self) -> _Item[T] | None:
        """The next job, in line."""
        try:
            job = next(self._jobs, None)
        except BaseException as error:  # noqa: BLE001 - not swallowed: the caller gets it
            self._fault, job = error, None
        if job is None:
            self._exhausted = True
            self._head_done.notify()
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
        if not self._may_decode():
            return None
        item = heapq.heappop(self._read)[1]
        item.state = _State.DECODING
        self._decoding += 1
        return partial(self._decode, item)

    def _touch(self, item: _Item[T]) -> None:
        item.since_s = time.monotonic()
        item.has_slot = True
        self._slots += 1
        self._touching[current_thread()] = item

    def _announce(self, item: _Item[T]) -> _Conclusion:
        error = _error_of(item.job.announce)

        def conclude() -> bool:
            if not self._is_waited_for(item):
                return False
            self._announcing -= 1
            if error is not None:
                self._finish(item, None, error)
            else:
                item.state = _State.ANNOUNCED
                heapq.heappush(self._announced, (item.index, item))
            return True

        return conclude

    def _fetch(self, item: _Item[T]) -> _Conclusion:
        held = 0

        def read() -> None:
            nonlocal held
            held = item.job.read(Slot(lambda: self._give_back_early(item), lambda: _breathe(item)))

        def conclude() -> bool:
            if not self._is_waited_for(item):
                return False
            self._stalled_in_a_row = 0
            if error is not None:
                self._finish(item, None, error)
                return True
            needs = item.job.needs if item.job.needs is not None else self._expected - held
            self._hold(item, held + max(0, needs))
            if item.job.needs is not None:
                self._expect(item.held)
            item.state = _State.READ
            heapq.heappush(self._read, (item.index, item))
            return True

        error = _error_of(read)
        return conclude

    def _give_back_early(self, item: _Item[T]) -> None:
        with self._lock:
            self._give_back(item)
            self._wake_one()

    def _give_back(self, item: _Item[T]) -> None:
        if item.has_slot:
            item.has_slot = False
            self._slots -= 1

    def _is_waited_for(self, item: _Item[T]) -> bool:
        """After a step in the storage: whether this is in time. Else another thread has taken the place of this one."""
        self._touching.pop(current_thread(), None)
        self._give_back(item)
        if item.abandoned or self._closed:
            item.job.discard()
        return not item.abandoned

    def _decode(self, item: _Item[T]) -> _Conclusion:
        value, error, size = None, None, 0
        try:
            value, size = item.job.decode()
        except BaseException as raised:  # noqa: BLE001 - not swallowed: it is the outcome
            error = raised

        def conclude() -> bool:
            self._decoding -= 1
            self._finish(item, value, error, size)
            if error is None and item.job.needs is None:
                self._expect(size)
            return True

        return conclude

    def _finish(self, item: _Item[T], value: T | None, error: BaseException | None, size: int = 0) -> None:
        item.outcome = Outcome(item.job, value, error)
        item.state = _State.DONE
        self._hold(item, size)
        if self._is_head(item):
            self._head_done.notify()

    def _hold(self, item: _Item[T], size: int) -> None:
        self._holders += (size > 0) - (item.held > 0)
        self._used += size - item.held
        item.held = size
        self.most_held = max(self.most_held, self._used)

    def _expect(self, size: int) -> None:
        """A large image makes careful for the next ten or so."""
        if size == 0:  # drawn, or of no use: it says nothing of those to come
            return
        first = self._expected == self._budget
        self._expected = size if first else max(size, int(0.9 * self._expected))

    def _abandon_stalled(self) -> None:
        """Give up what has been silent for too long; a new thread takes the place of the one that sits in it."""
        now = time.monotonic()
        for thread, item in list(self._touching.items()):
            if not self._is_stalled(item, now):
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

    def _is_stalled(self, item: _Item[T], now: float) -> bool:
        """Whether it was silent for too long, and stayed so when it was given another moment.

        The whole process may have been stopped meanwhile (Ctrl-Z, a virtual machine that sleeps): its clock ran on.
        """
        if now - item.since_s < self._timeout_s:
            item.overdue_s = None
        elif item.overdue_s is None:
            item.overdue_s = now
        return item.overdue_s is not None and now - item.overdue_s >= min(_MOMENT_S, self._timeout_s)


def _error_of(step: Callable[[], None]) -> BaseException | None:
    try:
        step()
    except BaseException as error:  # noqa: BLE001 - not swallowed: it is the outcome
        return error
    return None


def _go_on() -> bool:
    return True


def _breathe(item: _Item[T]) -> None:
    item.since_s = time.monotonic()
