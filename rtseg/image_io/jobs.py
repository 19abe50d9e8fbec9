"""The jobs that ``Prefetch`` runs, their results, and the errors of storage that does not answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Job", "Outcome", "ReadTimeout", "Slot", "StorageTimeout"]

T = TypeVar("T")


class ReadTimeout(TimeoutError):
    """One read did not return in time."""


class StorageTimeout(TimeoutError):
    """Several reads in a row did not return in time."""


class Slot:
    """The permission to use the storage, which a job holds while it reads."""

    def __init__(self, release: Callable[[], None], keep_alive: Callable[[], None]) -> None:
        self.release = release
        """Call it, at most once, when the rest of the read does not use the storage."""
        self.keep_alive = keep_alive
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
