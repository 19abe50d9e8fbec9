"""A job in the queue of ``Prefetch``, and how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from rtseg.image_io.jobs import Job, Outcome

__all__ = ["QueuedJob", "State"]

T = TypeVar("T")
_GRACE_S = 1.0
"""Extra time for an overdue read."""


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
