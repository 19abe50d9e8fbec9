"""Labelled pictures, loaded ahead by the threads and at the pace that picture sequences are read with."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress

from rtseg.datasets import Dataset
from rtseg.errors import DatasetError
from rtseg.frame import Labels, Picture
from rtseg.sources._files import Footprint, LocalFile
from rtseg.sources._images import decoding_threads, storage_of
from rtseg.sources._pace import Pace
from rtseg.sources._prefetch import Job, Prefetch, Slot, StallError, StorageStalls
from rtseg.sources.reading import ReadOptions

__all__ = ["Loaded", "load_ahead"]

Loaded = tuple[int, Picture, Labels]
"""A place, and what ``Dataset.load`` gives for it."""

_AHEAD = 16
"""Pictures: a progress bar over the places is no further ahead of the results."""
_LARGEST = 2**40
"""Bytes of a file: the data set itself judges what its files hold."""


def load_ahead(
    dataset: Dataset, places: Iterable[int], *, epoch: int = 0, options: ReadOptions | None = None
) -> Generator[Loaded, None, None]:
    """What ``dataset.load`` gives for each of ``places``, in order, some loaded ahead.

    Close the iterator where it is not read to its end. Data that are drawn and not read are drawn when it is their
    turn.

    Args:
        dataset: loaded from several threads at once, where it has ``files``.
        places: taken one by one, as they are needed.
        epoch: as ``Dataset.load`` takes it.
        options: the bound of what is held, the storage and the time-out; the other options are of no meaning here.

    Raises:
        DatasetError: as of ``Dataset.load``, after the pictures before it; or the storage does not answer.
    """
    if len(dataset) == 0 or not dataset.files(0):
        for place in places:
            yield place, *dataset.load(place, epoch)
        return
    options = options or ReadOptions()
    pace = Pace(storage_of(dataset.files(0)[0], options.storage), decoding_threads())
    footprint = Footprint()
    with Prefetch(
        (_LoadJob(dataset, place, epoch, pace, footprint) for place in places),
        pace=pace,
        budget=1_000_000 * options.prefetch_mb,
        timeout_s=options.timeout_s,
        most=_AHEAD,
        name="rtseg-data",
    ) as ahead:
        try:
            for outcome in ahead:
                if isinstance(outcome.error, StallError):
                    raise DatasetError(f"{outcome.job.name} {outcome.error}: check the mount") from outcome.error
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.value is not None, "what has no error has a value"
                yield outcome.value
        except StorageStalls as error:
            raise DatasetError(f"{dataset.name} does not answer: {error}; check the mount") from error


class _LoadJob(Job[Loaded]):
    """One item of a data set. Its files are pulled through the page cache, from where ``load`` takes them."""

    def __init__(self, dataset: Dataset, place: int, epoch: int, pace: Pace, footprint: Footprint) -> None:
        self.name = dataset.title(place)
        self._dataset = dataset
        self._place = place
        self._epoch = epoch
        self._files = [LocalFile(path, pace, footprint, _LARGEST) for path in dataset.files(place)]

    def announce(self) -> None:
        """See ``Job``."""
        for file in self._files:
            with suppress(OSError):  # ``load`` meets it, too, and names the file
                file.announce()

    def read(self, slot: Slot) -> int:
        """See ``Job``: nothing is held, what was read lies in the page cache."""
        for file in self._files:
            with suppress(OSError):
                file.read(slot)
        return 0

    def decode(self) -> tuple[Loaded, int]:
        """See ``Job``."""
        try:
            picture, labels = self._dataset.load(self._place, self._epoch)
        finally:
            self.discard()
        return (self._place, picture, labels), picture.nbytes + labels.nbytes

    def discard(self) -> None:
        """See ``Job``."""
        for file in self._files:
            file.discard()
