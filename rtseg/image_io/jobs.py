"""The jobs that ``Prefetch`` runs, their progress and results, and the errors of storage that does not answer."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

__all__ = ["Job", "Outcome", "QueuedJob", "ReadTimeout", "Slot", "State", "StorageTimeout"]

T = TypeVar("T")
_GRACE_S = 1.0
"""Extra time for an overdue read."""


class ReadTimeout(TimeoutError):
    """One read did not return in time."""


class StorageTimeout(TimeoutError):
    """Several reads in a row did not return in time."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The permission to use the storage, which a job holds while it reads."""

    release: Callable[[], None]
    """Call it, at most once, when the rest of the read does not use the storage."""
    keep_alive: Callable[[], None]
    """Call it when data arrived: it restarts the timeout."""


class Job(ABC, Generic[T]):
    """One item of work. Each step is called once, in order, by one thread at a time."""

    name: str
    """The name for reports."""
    decode_bytes: int | None = None
    """Peak memory of ``decode`` in bytes, including the result. Known after ``read``, if at all."""

    def announce(self) -> None:
        """Tell the kernel that ``read`` will follow soon. Skipped where that does not help."""

    @abstractmethod
    def read(self, slot: Slot) -> int:
        """Read from the storage what ``decode`` needs; return how many bytes the job now holds."""

    @abstractmethod
    def decode(self) -> tuple[T, int]:
        """Return the result and its size in bytes. Does not use the storage."""

    def discard(self) -> None:
        """Close the files: the remaining steps will not be called."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome(Generic[T]):
    """A finished job with its result, or with the error that ended it."""

    job: Job[T]
    value: T | None
    error: BaseException | None


class State(Enum):
    """What a job is waiting for, or what a thread does with it."""

    ANNOUNCING = "announcing"
    ANNOUNCED = "announced"
    READING = "reading"
    READ = "read"
    DECODING = "decoding"
    DONE = "done"


@dataclass(slots=True, eq=False)
class QueuedJob(Generic[T]):
    """A job that was not delivered yet."""

    index: int
    job: Job[T]
    state: State
    active_s: float = 0.0
    """When the current storage step started or last received data."""
    overdue_s: float | None = None
    """When it was first seen to be overdue."""
    size: int = 0
    """Bytes that are held or reserved."""
    has_slot: bool = False
    abandoned: bool = False
    outcome: Outcome[T] | None = None

    def restart_timeout(self) -> None:
        """The storage step started, or received data."""
        self.active_s = time.monotonic()

    def is_stalled(self, now: float, timeout_s: float) -> bool:
        """Whether a read received no data for ``timeout_s`` seconds, and none in the grace period after that.

        The grace period is for a process that was suspended (Ctrl-Z, a sleeping virtual machine): its clock ran on.
        """
        if now - self.active_s < timeout_s:
            self.overdue_s = None
        elif self.overdue_s is None:
            self.overdue_s = now
        return self.overdue_s is not None and now - self.overdue_s >= min(_GRACE_S, timeout_s)
