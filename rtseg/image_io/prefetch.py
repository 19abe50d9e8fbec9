"""Read and decode items ahead on several threads, and deliver them in order, with bounded memory and waiting times.

    announce ──► read ──► decode ──► next()
    (kernel)     (slots)  (threads)  (caller, in order)

Every thread can run every step. The ``ReadProfile`` limits how many jobs may use the storage at once (announce and
read), and how many may use a processor (decode).

A thread that changes the state wakes at most one other thread; a woken thread that finds more than one step to do wakes
the next. (Waking all threads for every image cost a tenth of the throughput.) The thread that became idle last is woken
first, so that no more threads work, and hold memory for it, than are needed.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Condition, RLock, Thread, current_thread
from types import TracebackType
from typing import Generic, Self, TypeVar

from rtseg.image_io.jobs import Job, Outcome, QueuedJob, ReadTimeout, Slot, State, StorageTimeout
from rtseg.image_io.memory_budget import MemoryBudget
from rtseg.image_io.read_profile import ReadProfile

__all__ = ["Prefetch"]

T = TypeVar("T")
_Finish = Callable[[], bool]
"""Records what a step did; called with the lock held. Returns whether the thread continues."""
_Step = Callable[[], _Finish]
"""What a thread does without the lock."""
_CHECK_INTERVAL_S = 0.1
"""How often the caller looks for stalled reads."""
_MAX_STALLED = 3
"""After this many stalled reads in a row the storage is given up: each further one costs a timeout and a thread."""
_JOIN_S = 0.5
"""How long ``close`` waits for threads that are in a read."""


class Prefetch(Generic[T]):
    """Runs jobs ahead on threads. Iterate over it once, from one thread; leaving ``with`` ends the threads.

    Args:
        jobs: the jobs in order. They are requested one at a time, when they are needed; all threads wait meanwhile.
        profile: how the storage is read.
        budget: bytes that jobs may hold ahead of the caller. A single job may exceed it.
        timeout_s: longest time in seconds that a storage step may pass without receiving data.
        max_ahead: how many jobs may be ahead of the caller. Default: only the budget limits them.
        should_stop: called ten times a second; the iteration ends when it returns True.
        name: prefix of the thread names.
    """

    def __init__(
        self,
        jobs: Iterable[Job[T]],
        *,
        profile: ReadProfile,
        budget: int,
        timeout_s: float,
        max_ahead: int | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        name: str = "rtseg-images",
    ) -> None:
        self._jobs = iter(jobs)
        self._profile = profile
        self._budget = MemoryBudget(budget)
        self._timeout_s = timeout_s
        self._max_ahead = max_ahead
        self._should_stop = should_stop
        self._name = name
        self._lock = RLock()
        self._first_done = Condition(self._lock)  # the caller waits for it, or for the end
        self._idle: list[Condition] = []  # one for each idle thread; the latest is last
        self._woken = 0  # threads that were woken and have not run yet
        self._queue: deque[QueuedJob[T]] = deque()  # everything that was not delivered yet, in order
        self._announced: list[tuple[int, QueuedJob[T]]] = []
        self._read: list[tuple[int, QueuedJob[T]]] = []
        self._using_storage: dict[Thread, QueuedJob[T]] = {}
        self._count = 0
        self._announcing = self._slots = self._decoding = 0
        self._stalled_in_a_row = 0
        self._exhausted = self._closed = False
        self._jobs_error: BaseException | None = None  # raised by the iterator of the jobs
        self._threads: list[Thread] = []
        self.abandoned_threads = 0
        """Threads that are stuck in a read that does not return."""

    @property
    def peak_bytes(self) -> int:
        """The most bytes that the jobs held at any time."""
        return self._budget.peak_bytes

    def __iter__(self) -> Iterator[Outcome[T]]:
        """Yield the outcome of every job, in order. An error of ``jobs`` itself is raised after the jobs before it.

        Raises:
            StorageTimeout: several reads in a row did not return.
        """
        for _ in range(self._profile.threads):
            self._start_thread()
        while (outcome := self._next_outcome()) is not None:
            yield outcome
        if self._jobs_error is not None:
            raise self._jobs_error

    def _next_outcome(self) -> Outcome[T] | None:
        with self._lock:
            while not (self._queue and self._queue[0].state is State.DONE):
                if self._should_stop() or self._closed or (self._exhausted and not self._queue):
                    return None
                self._first_done.wait(_CHECK_INTERVAL_S)
                self._abandon_stalled()
            item = self._queue.popleft()
            self._set_size(item, 0)
            self._wake_one()
        return item.outcome

    def close(self) -> None:
        """End all threads and discard the remaining jobs. A thread that is stuck in a read is left behind."""
        with self._lock:
            self._closed = True
            self._first_done.notify()
            for idle in self._idle:
                idle.notify()
        deadline_s = time.monotonic() + _JOIN_S
        for thread in self._threads:
            with self._lock:
                reads = thread in self._using_storage
            thread.join(max(0.0, deadline_s - time.monotonic()) if reads else None)
            self.abandoned_threads += thread.is_alive()
        self._threads.clear()
        with self._lock:
            for item in self._queue:
                in_use = item.abandoned or item.state in (State.ANNOUNCING, State.READING)
                if not in_use:  # else its own thread discards it
                    item.job.discard()
            self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_thread(self) -> None:
        # A daemon: a read that never returns must not keep the process alive.
        thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        idle = Condition(self._lock)
        finish: _Finish = lambda: True  # noqa: E731 - nothing to record yet
        while True:
            with self._lock:
                step = self._wait_for_step(idle) if finish() else None
                if step is None:
                    return
                self._wake_one()
            finish = step()

    def _wait_for_step(self, idle: Condition) -> _Step | None:
        """The next step for this thread, or None to end it. Call it with the lock held."""
        while not self._closed:
            step = self._next_step()
            if step is not None:
                return step
            self._idle.append(idle)
            idle.wait()
            self._woken -= 1
        return None

    def _wake_one(self) -> None:
        """Wake one thread if there is a step to do.

        Call it, with the lock held, after every change, except in a thread that looks for a step itself. So whenever
        the lock is free, there is nothing to do, or no thread is idle, or a woken thread is about to run.
        """
        if self._idle and not self._woken and (self._may_decode() or self._may_take() or self._may_read()):
            self._woken += 1
            self._idle.pop().notify()

    def _next_step(self) -> _Step | None:
        # A hard disk must never be idle. Elsewhere it is best to decode data while it is still in the processor cache.
        if self._profile.serial:
            return self._storage_step() or self._decode_step()
        return self._decode_step() or self._storage_step()

    def _may_decode(self) -> bool:
        if not self._read or self._decoding >= self._profile.decoders:
            return False
        return not self._budget.exceeded or self._is_first(self._read[0][1])

    def _may_take(self) -> bool:
        full = self._max_ahead is not None and len(self._queue) >= self._max_ahead
        announced = len(self._announced) + self._announcing
        has_slot = self._slots < self._profile.readers
        return not (self._exhausted or full) and announced < self._profile.files_ahead and has_slot

    def _may_read(self) -> bool:
        if not self._announced or self._slots >= self._profile.readers:
            return False
        # Announcements finish out of order, so later jobs may have used up the budget: the first one may always read.
        if self._budget.unused or self._is_first(self._announced[0][1]):
            return True
        # A hard disk reads on. Elsewhere the kernel already holds the next files, and it is better to decode first.
        is_useful = self._profile.serial or len(self._read) < self._profile.readers
        return is_useful and self._budget.has_room

    def _is_first(self, item: QueuedJob[T]) -> bool:
        return bool(self._queue) and item is self._queue[0]

    def _storage_step(self) -> _Step | None:
        if self._may_take():
            taken = self._take()
            if taken is not None and taken.state is State.ANNOUNCING:
                self._start_storage_step(taken)
                return partial(self._announce, taken)
        if not self._may_read():
            return None
        item = heapq.heappop(self._announced)[1]
        item.state = State.READING
        self._set_size(item, self._budget.estimate)
        self._start_storage_step(item)
        return partial(self._read_item, item)

    def _take(self) -> QueuedJob[T] | None:
        """Append the next job to the queue."""
        try:
            job = next(self._jobs, None)
        except BaseException as error:  # noqa: BLE001 - raised by __iter__
            self._jobs_error, job = error, None
        if job is None:
            self._exhausted = True
            self._first_done.notify()
            return None
        state = State.ANNOUNCING if self._profile.announces else State.ANNOUNCED
        item = QueuedJob(self._count, job, state)
        self._count += 1
        self._queue.append(item)
        if state is State.ANNOUNCED:
            heapq.heappush(self._announced, (item.index, item))
        else:
            self._announcing += 1
        return item

    def _decode_step(self) -> _Step | None:
        if not self._may_decode():
            return None
        item = heapq.heappop(self._read)[1]
        item.state = State.DECODING
        self._decoding += 1
        return partial(self._decode, item)

    def _start_storage_step(self, item: QueuedJob[T]) -> None:
        item.restart_timeout()
        item.has_slot = True
        self._slots += 1
        self._using_storage[current_thread()] = item

    def _end_storage_step(self, item: QueuedJob[T]) -> bool:
        """Return whether the step ended in time. If not, another thread has already replaced this one."""
        self._using_storage.pop(current_thread(), None)
        self._release_slot(item)
        if item.abandoned or self._closed:
            item.job.discard()
        return not item.abandoned

    def _announce(self, item: QueuedJob[T]) -> _Finish:
        error = _error_of(item.job.announce)

        def finish() -> bool:
            if not self._end_storage_step(item):
                return False
            self._announcing -= 1
            if error is not None:
                self._set_outcome(item, None, error)
            else:
                item.state = State.ANNOUNCED
                heapq.heappush(self._announced, (item.index, item))
            return True

        return finish

    def _read_item(self, item: QueuedJob[T]) -> _Finish:
        size = 0

        def read() -> None:
            nonlocal size
            size = item.job.read(Slot(lambda: self._release_early(item), item.restart_timeout))

        def finish() -> bool:
            if not self._end_storage_step(item):
                return False
            self._stalled_in_a_row = 0
            if error is not None:
                self._set_outcome(item, None, error)
                return True
            decode_bytes = item.job.decode_bytes
            needed = decode_bytes if decode_bytes is not None else self._budget.estimate - size
            self._set_size(item, size + max(0, needed))
            if decode_bytes is not None:
                self._budget.record(item.size)
            item.state = State.READ
            heapq.heappush(self._read, (item.index, item))
            return True

        error = _error_of(read)
        return finish

    def _release_early(self, item: QueuedJob[T]) -> None:
        with self._lock:
            self._release_slot(item)
            self._wake_one()

    def _release_slot(self, item: QueuedJob[T]) -> None:
        if item.has_slot:
            item.has_slot = False
            self._slots -= 1

    def _decode(self, item: QueuedJob[T]) -> _Finish:
        value, error, size = None, None, 0
        try:
            value, size = item.job.decode()
        except BaseException as raised:  # noqa: BLE001 - part of the outcome
            error = raised

        def finish() -> bool:
            self._decoding -= 1
            self._set_outcome(item, value, error, size)
            if error is None and item.job.decode_bytes is None:
                self._budget.record(size)
            return True

        return finish

    def _set_outcome(self, item: QueuedJob[T], value: T | None, error: BaseException | None, size: int = 0) -> None:
        item.outcome = Outcome(item.job, value, error)
        item.state = State.DONE
        self._set_size(item, size)
        if self._is_first(item):
            self._first_done.notify()

    def _set_size(self, item: QueuedJob[T], size: int) -> None:
        self._budget.change(item.size, size)
        item.size = size

    def _abandon_stalled(self) -> None:
        """Give up reads that received no data for too long; start a new thread in place of each stuck one."""
        now = time.monotonic()
        for thread, item in list(self._using_storage.items()):
            if not item.is_stalled(now, self._timeout_s):
                continue
            if item.state is State.ANNOUNCING:
                self._announcing -= 1
            self._using_storage.pop(thread)
            self._threads.remove(thread)
            self._release_slot(item)
            item.abandoned = True
            self.abandoned_threads += 1
            self._stalled_in_a_row += 1
            self._set_outcome(item, None, ReadTimeout(f"was not read within {self._timeout_s:g} s"))
            if self._stalled_in_a_row >= _MAX_STALLED:
                raise StorageTimeout(f"{_MAX_STALLED} files in a row were not read within {self._timeout_s:g} s each")
            self._start_thread()


def _error_of(step: Callable[[], None]) -> BaseException | None:
    try:
        step()
    except BaseException as error:  # noqa: BLE001 - part of the outcome
        return error
    return None
