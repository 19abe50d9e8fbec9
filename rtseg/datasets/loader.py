"""Labelled images, read and decoded ahead by the threads and at the pace that image sequences are read with."""

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

from rtseg.datasets import Dataset, Read
from rtseg.errors import DatasetError, SourceError
from rtseg.frame import Image, Labels
from rtseg.image_io.files import Footprint, ImageFile, LocalFile
from rtseg.image_io.header import read_head
from rtseg.image_io.options import ReadOptions
from rtseg.image_io.prefetch import Job, Outcome, Prefetch, Slot, StallError, StorageStalls
from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.ssd_cache import CachedFile, SsdCache
from rtseg.image_io.storage_kind import Storage, decoding_threads, slowest, storage_of
from rtseg.image_io.timeout import answer_within

__all__ = ["Example", "Loaded", "Reader", "load_ahead"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Loaded = tuple[int, Image, Labels]
"""A place, and what ``Dataset.load`` gives for it."""

_AHEAD = 16
"""Examples: a progress bar over the places is no further ahead of the results."""
_LARGEST = 2**40
"""Bytes of a file: the data set itself judges what its files hold."""
_SCRATCH = 16
"""Bytes a pixel of every file while it is decoded: a mask of colours is three planes of 32 bits in between."""
_LEAST_THREADS = 1
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Example(Generic[T_co]):
    """Something that is to be made of files."""

    name: str
    """As a message calls it."""
    files: tuple[Path, ...]
    """What it is made of; nothing where it is drawn."""
    make: Callable[[Read], T_co]
    """Called with what gives the content of each of ``files``: on any thread. Where there are none: by the caller, when
    it is its turn."""


class Turn(Protocol):
    """A lock between processes, as ``multiprocessing.Lock`` makes it."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take it; whether that came about within ``timeout`` seconds."""

    def release(self) -> None:
        """Give it back."""


class Reader:
    """How the files of data sets are read. One serves many passes.

    Args:
        options: the bound of what is held, the storage, the cache and the time-out; the other options are of no
            meaning here: every file counts, and the data set decodes it.

    Raises:
        OptionError: the folder of the cache cannot be used.
    """

    def __init__(self, options: ReadOptions | None = None) -> None:
        self._options = options or ReadOptions()
        self._share = 1
        self._turn: Turn | None = None
        folder = self._options.ssd_cache
        self._cache = SsdCache(folder, int(1e9 * self._options.cache_gb)) if folder is not None else None

    @property
    def notice(self) -> str:
        """What to tell the user of the cache after a pass: why it keeps nothing more; else empty."""
        fault = self._cache.fault if self._cache is not None else None
        return f"--ssd-cache: {fault}" if fault is not None else ""

    def split(self, share: int, turn: Turn) -> Reader:
        """This reader for one of ``share`` processes that read at the same time.

        Threads and memory are split between them.

        Args:
            share: how many they are.
            turn: what a process holds while it reads from a storage that wants one reader at a time.
        """
        other = copy(self)
        other._share, other._turn = share, turn
        return other

    def load(self, dataset: Dataset, places: Iterable[int], epoch: int = 0) -> Generator[Loaded, None, None]:
        """What ``dataset.load`` gives for each of ``places``, in order, some loaded ahead.

        Close the iterator where it is not read to its end. Data that are drawn and not read are drawn when it is their
        turn.

        Args:
            dataset: loaded from several threads at once, where it has ``files``.
            places: taken one by one, as they are needed.
            epoch: as ``Dataset.load`` takes it.

        Raises:
            DatasetError: as of ``Dataset.load``, after the images before it; or the storage does not answer.
        """
        with closing(self.attempt(dataset, places, epoch)) as outcomes:
            for _, outcome in outcomes:
                yield _value(outcome)

    def attempt(
        self, dataset: Dataset, places: Iterable[int], epoch: int = 0
    ) -> Generator[tuple[int, Loaded | DatasetError], None, None]:
        """``load`` that goes on behind an image which cannot be used: each place with what came of it.

        Raises:
            DatasetError: the storage does not answer.
        """
        taken: deque[int] = deque()

        def examples() -> Iterator[Example[Loaded]]:
            for place in places:
                taken.append(place)
                yield Example(dataset.title(place), dataset.files(place), _loading(dataset, place, epoch))

        origins = dataset.files(0) if len(dataset) else ()
        with closing(self._outcomes(examples(), origins, dataset.name)) as outcomes:
            for outcome in outcomes:
                yield taken.popleft(), outcome

    def make(self, examples: Iterable[Example[T]], origins: Sequence[Path], what: str) -> Generator[T, None, None]:
        """What each of ``examples`` makes, in order, some of it ahead.

        Args:
            examples: taken one by one, as they are needed.
            origins: one file of each storage that their files lie on.
            what: the name of them all, for messages.

        Raises:
            DatasetError: what ``make`` of an example raised, after the examples before it; or the storage does not
                answer.
        """
        with closing(self._outcomes(examples, origins, what)) as outcomes:
            for outcome in outcomes:
                yield _value(outcome)

    def _outcomes(
        self, examples: Iterable[Example[T]], origins: Sequence[Path], what: str
    ) -> Generator[T | DatasetError, None, None]:
        if not origins:
            for example in examples:
                yield _attempted(example, Path.read_bytes)
            return
        options = self._options
        pace = ReadProfile(self._storage(origins, what), max(_LEAST_THREADS, decoding_threads() // self._share))
        footprint = Footprint()

        def jobs() -> Iterator[_ExampleJob[T]]:
            for example in examples:
                files = {path: self._file(path, pace, footprint) for path in example.files}
                yield _ExampleJob(example, files, self._turn if pace.serial else None)

        ahead = Prefetch(
            jobs(),
            pace=pace,
            budget=max(1, 1_000_000 * options.prefetch_mb // self._share),
            timeout_s=options.timeout_s,
            most=_AHEAD,
            name="rtseg-data",
        )
        with ahead:
            try:
                for outcome in ahead:
                    yield _judged(outcome)
            except StorageStalls as error:
                raise DatasetError(f"{what} does not answer: {error}; check the mount") from error

    def _storage(self, origins: Sequence[Path], what: str) -> Storage:
        wanted = self._options.storage
        try:
            return answer_within(
                self._options.timeout_s, what, lambda: slowest([storage_of(path, wanted) for path in origins])
            )
        except SourceError as error:
            raise DatasetError(str(error)) from error

    def _file(self, path: Path, pace: ReadProfile, footprint: Footprint) -> ImageFile:
        file = LocalFile(path, pace, footprint, _LARGEST)
        return CachedFile(file, self._cache) if self._cache is not None else file


def load_ahead(
    dataset: Dataset, places: Iterable[int], *, epoch: int = 0, reader: Reader | None = None
) -> Generator[Loaded, None, None]:
    """``Reader.load`` of ``reader``, or of one with the usual options."""
    return (reader or Reader()).load(dataset, places, epoch)


def _value(outcome: T | DatasetError) -> T:
    if isinstance(outcome, DatasetError):
        raise outcome
    return outcome


def _attempted(example: Example[T], read: Read) -> T | DatasetError:
    try:
        return example.make(read)
    except DatasetError as error:
        return error


def _loading(dataset: Dataset, place: int, epoch: int) -> Callable[[Read], Loaded]:
    return lambda read: (place, *dataset.load(place, epoch, read))


class _ExampleJob(Job[T | DatasetError | None]):
    """One example. What is drawn is left to the caller: None."""

    def __init__(self, example: Example[T], files: dict[Path, ImageFile], turn: Turn | None) -> None:
        self.name = example.name
        self.example = example
        self._files = files
        self._turn = turn
        self._contents: dict[Path, bytes | OSError] = {}

    def announce(self) -> None:
        """See ``Job``."""
        for file in self._files.values():
            with suppress(OSError):  # ``read`` meets it, too
                file.announce()

    def read(self, slot: Slot) -> int:
        """See ``Job``; what cannot be read is for ``make`` to tell."""
        for left, (path, file) in zip(reversed(range(len(self._files))), self._files.items(), strict=True):
            try:
                with ExitStack() as turn:
                    self._take_turn(turn, slot)
                    off_storage = [turn.close] if left else [turn.close, slot.give_back]
                    self._contents[path] = file.read(Slot(partial(_call, off_storage), slot.alive))
            except OSError as error:
                self._contents[path] = error
            finally:
                file.discard()
        contents = [content for content in self._contents.values() if isinstance(content, bytes)]
        heads = [read_head(content) for content in contents]
        self.needs = sum(_SCRATCH * head.pixels for head in heads if head is not None)
        return sum(map(len, contents))

    def _take_turn(self, turn: ExitStack, slot: Slot) -> None:
        """Wait for the other processes, which is no fault of the storage."""
        if self._turn is None:
            return
        while not self._turn.acquire(timeout=_WAIT_S):
            slot.alive()
        slot.alive()
        turn.callback(self._turn.release)

    def decode(self) -> tuple[T | DatasetError | None, int]:
        """See ``Job``."""
        if not self._files:
            return None, 0
        made = _attempted(self.example, self._content)
        self._contents.clear()
        return made, _size(made)

    def _content(self, path: Path) -> bytes:
        found = self._contents[path]
        if isinstance(found, OSError):
            raise found
        return found

    def discard(self) -> None:
        """See ``Job``."""
        for file in self._files.values():
            file.discard()


def _judged(outcome: Outcome[T | DatasetError | None]) -> T | DatasetError:
    job = outcome.job
    assert isinstance(job, _ExampleJob), "this is the only kind of job here"
    if isinstance(outcome.error, StallError):
        raise DatasetError(f"{job.name} {outcome.error}: check the mount") from outcome.error
    if outcome.error is not None:
        raise outcome.error  # a slip of ours
    return _attempted(job.example, Path.read_bytes) if outcome.value is None else outcome.value


def _size(made: object) -> int:
    """Bytes of the arrays in what was made of an example: images and labels."""
    if isinstance(made, np.ndarray):
        return made.nbytes
    return sum(map(_size, made)) if isinstance(made, tuple | list) else 0


def _call(each: Iterable[Callable[[], None]]) -> None:
    for one in each:
        one()
