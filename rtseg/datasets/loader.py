"""Read and decode the files of data sets ahead of their use, with the same machinery as image sequences."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from rtseg.datasets import Dataset, ReadFile
from rtseg.errors import DatasetError, SourceError
from rtseg.frame import Image, Labels
from rtseg.image_io.files import Footprint, ImageFile, LocalFile
from rtseg.image_io.header import read_header
from rtseg.image_io.jobs import Job, Outcome, ReadTimeout, Slot, StorageTimeout
from rtseg.image_io.options import ReadOptions
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile, decode_threads
from rtseg.image_io.ssd_cache import CachedFile, SsdCache
from rtseg.image_io.storage_kind import Storage, slowest, storage_for
from rtseg.image_io.timeout import call_with_timeout
from rtseg.system.read_file import read_image_bytes

__all__ = ["DatasetReader", "LoadTask", "LoadedItem"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
LoadedItem = tuple[int, Image, Labels]
"""An index, and the result of ``Dataset.load`` for it."""

_MAX_AHEAD = 16
"""Tasks read ahead: bounds how far a progress bar over the indices runs ahead of the results."""
_MAX_FILE_BYTES = 2**40
"""No real limit: the data set itself checks what its files contain."""
_SCRATCH_BYTES_PER_PIXEL = 16
"""Memory for decoding a file: a colour mask needs three temporary channels of 32 bits."""
_LOCK_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class LoadTask(Generic[T_co]):
    """A result to load from files."""

    name: str
    """What messages call it."""
    files: tuple[Path, ...]
    """The files to read; empty for generated data."""
    load: Callable[[ReadFile], T_co]
    """Called with a function that returns the content of each of ``files``, on any thread. If there are no files, it is
    called by the consumer when the result is needed."""


class ProcessLock(Protocol):
    """A lock between processes, e.g. ``multiprocessing.Lock``."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock; return whether this succeeded within ``timeout`` seconds."""

    def release(self) -> None:
        """Release the lock."""


class DatasetReader:
    """Reads the files of data sets ahead. One instance serves many passes.

    Args:
        options: memory bound, storage, cache and timeout. The other options are ignored: every file is read, and the
            data set decodes it.

    Raises:
        OptionError: the folder of the cache cannot be used.
    """

    def __init__(self, options: ReadOptions | None = None) -> None:
        self._options = options or ReadOptions()
        self._processes = 1
        self._storage_lock: ProcessLock | None = None
        folder = self._options.ssd_cache
        self._cache = SsdCache(folder, int(1e9 * self._options.cache_gb)) if folder is not None else None

    @property
    def notice(self) -> str:
        """Message for the user after a pass: why the cache stores nothing more; empty if there is no problem."""
        fault = self._cache.fault if self._cache is not None else None
        return f"--ssd-cache: {fault}" if fault is not None else ""

    def share_between(self, processes: int, storage_lock: ProcessLock) -> DatasetReader:
        """Return a reader for one of several processes that read at the same time; they share threads and memory.

        Args:
            processes: number of processes.
            storage_lock: held while reading from a storage that should have one reader at a time.
        """
        other = copy(self)
        other._processes, other._storage_lock = processes, storage_lock
        return other

    def load(self, dataset: Dataset, indices: Iterable[int], epoch: int = 0) -> Generator[LoadedItem, None, None]:
        """Load the items at ``indices``, in order, some of them ahead.

        Close the generator if it is not read to its end. Generated data are drawn when they are needed.

        Args:
            dataset: loaded from several threads if it has ``files``.
            indices: consumed one by one, as they are needed.
            epoch: see ``Dataset.load``.

        Raises:
            DatasetError: see ``Dataset.load``, raised after the preceding items; or the storage does not answer.
        """
        with closing(self.load_or_error(dataset, indices, epoch)) as outcomes:
            for _, outcome in outcomes:
                yield _result(outcome)

    def load_or_error(
        self, dataset: Dataset, indices: Iterable[int], epoch: int = 0
    ) -> Generator[tuple[int, LoadedItem | DatasetError], None, None]:
        """Load the items at ``indices``, and continue after an item that cannot be loaded.

        Yields:
            The index, and the item or the error.

        Raises:
            DatasetError: the storage does not answer.
        """
        pending: deque[int] = deque()

        def tasks() -> Iterator[LoadTask[LoadedItem]]:
            for index in indices:
                pending.append(index)
                yield LoadTask(dataset.title(index), dataset.files(index), _loader(dataset, index, epoch))

        samples = dataset.files(0) if len(dataset) else ()
        with closing(self._outcomes(tasks(), samples, dataset.name)) as outcomes:
            for outcome in outcomes:
                yield pending.popleft(), outcome

    def run(self, tasks: Iterable[LoadTask[T]], samples: Sequence[Path], name: str) -> Generator[T, None, None]:
        """Yield the result of each task, in order, some of them loaded ahead.

        Args:
            tasks: consumed one by one, as they are needed.
            samples: one file from each storage that the files are on.
            name: what messages call all of the data.

        Raises:
            DatasetError: raised by a task, after the results of the preceding tasks; or the storage does not answer.
        """
        with closing(self._outcomes(tasks, samples, name)) as outcomes:
            for outcome in outcomes:
                yield _result(outcome)

    def _outcomes(
        self, tasks: Iterable[LoadTask[T]], samples: Sequence[Path], name: str
    ) -> Generator[T | DatasetError, None, None]:
        if not samples:
            for task in tasks:
                yield _run_task(task, read_image_bytes)
            return
        options = self._options
        profile = ReadProfile(self._find_storage(samples, name), max(1, decode_threads() // self._processes))
        footprint = Footprint()

        def jobs() -> Iterator[_TaskJob[T]]:
            for task in tasks:
                files = {path: self._open_file(path, profile, footprint) for path in task.files}
                yield _TaskJob(task, files, self._storage_lock if profile.serial else None)

        prefetch = Prefetch(
            jobs(),
            profile=profile,
            budget=max(1, 1_000_000 * options.prefetch_mb // self._processes),
            timeout_s=options.timeout_s,
            max_ahead=_MAX_AHEAD,
            name="rtseg-data",
        )
        with prefetch:
            try:
                for outcome in prefetch:
                    yield _outcome_of_job(outcome)
            except StorageTimeout as error:
                raise DatasetError(f"{name} does not answer: {error}; check the mount") from error

    def _find_storage(self, samples: Sequence[Path], name: str) -> Storage:
        kind = self._options.storage
        try:
            return call_with_timeout(
                self._options.timeout_s, name, lambda: slowest([storage_for(path, kind) for path in samples])
            )
        except SourceError as error:
            raise DatasetError(str(error)) from error

    def _open_file(self, path: Path, profile: ReadProfile, footprint: Footprint) -> ImageFile:
        file = LocalFile(path, profile, footprint, _MAX_FILE_BYTES)
        return CachedFile(file, self._cache) if self._cache is not None else file


def _result(outcome: T | DatasetError) -> T:
    if isinstance(outcome, DatasetError):
        raise outcome
    return outcome


def _run_task(task: LoadTask[T], read: ReadFile) -> T | DatasetError:
    try:
        return task.load(read)
    except DatasetError as error:
        return error


def _loader(dataset: Dataset, index: int, epoch: int) -> Callable[[ReadFile], LoadedItem]:
    return lambda read: (index, *dataset.load(index, epoch, read))


class _TaskJob(Job[T | DatasetError | None]):
    """A prefetch job for one task. The result is None for generated data, which the consumer draws."""

    def __init__(self, task: LoadTask[T], files: dict[Path, ImageFile], storage_lock: ProcessLock | None) -> None:
        self.name = task.name
        self.task = task
        self._files = files
        self._storage_lock = storage_lock
        self._contents: dict[Path, bytes | OSError] = {}

    def announce(self) -> None:
        """See ``Job``."""
        for file in self._files.values():
            with suppress(OSError):  # ``read`` reports the same error
                file.announce()

    def read(self, slot: Slot) -> int:
        """See ``Job``. A read error is kept, and raised when the task asks for the file."""
        for remaining, (path, file) in zip(reversed(range(len(self._files))), self._files.items(), strict=True):
            try:
                with ExitStack() as lock:
                    self._acquire_lock(lock, slot)
                    releases = [lock.close] if remaining else [lock.close, slot.release]
                    self._contents[path] = file.read(Slot(partial(_call_all, releases), slot.keep_alive))
            except OSError as error:
                self._contents[path] = error
            finally:
                file.close()
        contents = [content for content in self._contents.values() if isinstance(content, bytes)]
        headers = [read_header(content) for content in contents]
        self.decode_bytes = sum(_SCRATCH_BYTES_PER_PIXEL * header.pixels for header in headers if header is not None)
        return sum(map(len, contents))

    def _acquire_lock(self, lock: ExitStack, slot: Slot) -> None:
        """Wait for the other processes; this wait does not count as a stall of the storage."""
        if self._storage_lock is None:
            return
        while not self._storage_lock.acquire(timeout=_LOCK_TIMEOUT_S):
            slot.keep_alive()
        slot.keep_alive()
        lock.callback(self._storage_lock.release)

    def decode(self) -> tuple[T | DatasetError | None, int]:
        """See ``Job``."""
        if not self._files:
            return None, 0
        result = _run_task(self.task, self._content)
        self._contents.clear()
        return result, _array_bytes(result)

    def _content(self, path: Path) -> bytes:
        content = self._contents[path]
        if isinstance(content, OSError):
            raise content
        return content

    def discard(self) -> None:
        """See ``Job``."""
        for file in self._files.values():
            file.close()


def _outcome_of_job(outcome: Outcome[T | DatasetError | None]) -> T | DatasetError:
    job = outcome.job
    assert isinstance(job, _TaskJob), "no other kind of job is submitted here"
    if isinstance(outcome.error, ReadTimeout):
        raise DatasetError(f"{job.name} {outcome.error}: check the mount") from outcome.error
    if outcome.error is not None:
        raise outcome.error  # a bug in rtseg
    return _run_task(job.task, read_image_bytes) if outcome.value is None else outcome.value


def _array_bytes(result: object) -> int:
    """Return the total size of the arrays in a result."""
    if isinstance(result, np.ndarray):
        return result.nbytes
    return sum(map(_array_bytes, result)) if isinstance(result, tuple | list) else 0


def _call_all(callbacks: Iterable[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
