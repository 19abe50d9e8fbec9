"""One pass over a set: read and decoded by so many workers, or by the reader of rtseg with its automatic profile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rtseg.bench.environment import rate
from rtseg.bench.storage.image_sets import ImageSet
from rtseg.bench.storage.page_cache import drop, load
from rtseg.bench.storage.simulated_disk import SimulatedDisk, SimulatedFile
from rtseg.errors import MissingExtra, SourceError
from rtseg.frame import Image
from rtseg.image_io.decode import ImageError
from rtseg.image_io.decoders import DecodeOptions, Decoder, open_decoder
from rtseg.image_io.files import Footprint, ImageFile, LocalFile
from rtseg.image_io.find import ImageLocation
from rtseg.image_io.jobs import Job, Slot, StorageTimeout
from rtseg.image_io.options import ReadOptions
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.storage_kind import Storage
from rtseg.sources.base import Source, SourceOptions
from rtseg.sources.images import ImagesSource

__all__ = ["AUTO", "MEASURED_FROM", "Pass", "Setup", "why_not"]

AUTO = "auto"
"""In the place of a number of workers: the reader of rtseg, as ``rtseg stream`` has it."""
MEASURED_FROM = 0.01
"""Cold: at most so much of the set lay in memory before the pass. Warm: all but at most so much did."""
_READS = {"turbojpeg": {".jpg", ".jpeg", ".jpe"}, "torchvision": {".jpg", ".jpeg", ".jpe", ".png", ".webp"}}
"""Suffixes of what a decoder reads itself; the others read all."""
_LIMIT = 2**40
"""Bytes of a file: the sets are the user's own."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over the set gave."""

    images_per_s: float
    mb_per_s: float
    """Of the files, in 10**6 bytes a second, over the same time."""
    in_memory: float
    """Share of the set's pages in the page cache before the pass, 0 to 1."""


def why_not(decoder: str, images: ImageSet) -> str | None:
    """Why a set cannot be read by ``decoder``, in a few words; None where it can."""
    reads = _READS.get(decoder)
    others = [suffix for suffix in images.facts["formats"] if reads is not None and suffix not in reads]
    if others:
        return f"{decoder} decodes no {' '.join(suffix.lstrip('.').upper() for suffix in others)}"
    try:
        open_decoder(decoder)
    except MissingExtra as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class Setup:
    """A set on a storage.

    Args:
        images: the set.
        profile: as ``--storage`` of the reader.
        disk: the hard disk that it is read from as if it lay there, or None.
        prefetch_mb: bound of what is read ahead.
    """

    images: ImageSet
    profile: str
    disk: SimulatedDisk | None
    prefetch_mb: int

    def read(self, decoder: str, workers: int | str, *, cold: bool) -> Pass:
        """Read and decode all images once.

        Args:
            decoder: one of ``rtseg.image_io.options.DECODERS``.
            workers: threads that each read and decode; 0: none but the caller's. Or ``AUTO``.
            cold: whether the files are taken out of the page cache before, or else read into it.

        Raises:
            SourceError: an image cannot be used.
        """
        in_memory = self.chill() if cold else self.warm()
        if workers == AUTO:
            return self._timed(self._by_source(self.source(decoder)), in_memory)
        return self._timed(self._by_workers(decoder, int(workers)), in_memory)

    def read_through(self, cache: Path) -> Pass:
        """Read and decode all images once, cold, by the reader with ``--ssd-cache``; the cache is cold, too.

        Raises:
            SourceError: an image cannot be used.
        """
        in_memory = self.chill()
        drop(path for path in cache.rglob("*") if path.is_file())
        source = self.source("cv2", cache)
        passed = self._timed(self._by_source(source), in_memory)
        fault = source.facts()["reading"]["cache"]["fault"]
        if fault is not None:
            raise SourceError(f"--ssd-cache: {fault}; give another --cache-folder")
        return passed

    def chill(self) -> float:
        """Take the set out of memory; returns the share that stayed."""
        if self.disk is not None:
            self.disk.forget()
        return drop(self.images.paths)

    def warm(self) -> float:
        """Bring the set into memory; returns the share that is there."""
        if self.disk is not None:
            self.disk.keep(self.images.paths)
        return load(self.images.paths)

    def source(self, decoder: str, cache: Path | None = None) -> Source:
        """The set as a source, one pass; what cannot be used is an error after it."""
        reading = ReadOptions(
            decoder=decoder,
            prefetch_mb=self.prefetch_mb,
            storage=self.profile,
            ssd_cache=cache,
            cache_gb=max(0.01, 2e-9 * self.images.size_bytes),
        )
        options = SourceOptions(reading=reading)
        if self.disk is None:
            return ImagesSource(self.images.folder, options)
        return _OnDisk(self.images.folder, options, self.disk)

    def _by_source(self, source: Source) -> Iterator[None]:
        with closing(iter(source)) as frames:  # type: ignore[type-var]
            for _ in frames:
                yield None
        refuse_damaged(source)

    def _by_workers(self, decoder: str, workers: int) -> Iterator[None]:
        jobs = self._jobs(open_decoder(decoder), _Workers(max(1, workers)))
        if workers == 0:
            for job in jobs:
                try:
                    job.read(Slot(_nothing, _nothing))
                    job.decode()
                except (ImageError, OSError) as error:
                    raise self._refused(job, error) from error
                yield None
            return
        budget = 1_000_000 * self.prefetch_mb
        timeout_s = ReadOptions().timeout_s
        with Prefetch(jobs, profile=_Workers(workers), budget=budget, timeout_s=timeout_s) as ahead:
            try:
                for outcome in ahead:
                    if isinstance(outcome.error, ImageError | OSError):
                        raise self._refused(outcome.job, outcome.error) from outcome.error
                    if outcome.error is not None:
                        raise outcome.error  # a slip of ours
                    yield None
            except StorageTimeout as error:
                raise SourceError(f"{self.images.folder} does not answer: {error}; check the mount") from error

    def _refused(self, job: Job[Image], error: Exception) -> SourceError:
        fault = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
        return SourceError(f"{self.images.folder}: {job.name} {fault}: take it out")

    def _jobs(self, decode: Decoder, profile: ReadProfile) -> Iterator[_Load]:
        footprint = Footprint()
        for path in self.images.paths:
            file: ImageFile = LocalFile(path, profile, footprint, _LIMIT)
            yield _Load(SimulatedFile(file, path, self.disk) if self.disk is not None else file, decode)

    def _timed(self, passing: Iterator[None], in_memory: float) -> Pass:
        # From the moment at which reading begins, not from the first image: when that comes out, a reader that works
        # ahead has many more at hand, of a small set all.
        times_s = [time.perf_counter()]
        times_s += [time.perf_counter() for _ in passing]
        images_per_s = rate(times_s)
        mean_bytes = self.images.size_bytes / len(self.images.paths)
        return Pass(images_per_s, images_per_s * mean_bytes / 1e6, in_memory)


def refuse_damaged(source: Source) -> None:
    """After a pass: an image that was skipped makes the others look fast.

    Raises:
        SourceError: there was one.
    """
    if source.damaged:
        named = ", ".join(source.damaged_names[:3])
        raise SourceError(f"{source.name}: {source.damaged} images cannot be used ({named}): take them out")


class _Load(Job[Image]):
    """One file, from storage to pixels."""

    def __init__(self, file: ImageFile, decode: Decoder) -> None:
        self.name = file.name
        self._file = file
        self._decode = decode
        self._data = b""

    def read(self, slot: Slot) -> int:
        """See ``Job``."""
        try:
            self._data = self._file.read(slot)
        finally:
            self._file.close()
        return len(self._data)

    def decode(self) -> tuple[Image, int]:
        """See ``Job``."""
        data, self._data = self._data, b""
        image = self._decode(data, DecodeOptions())
        return image, image.nbytes


class _Workers(ReadProfile):
    """Each of so many threads reads a file and decodes it: what data loaders do, whatever the storage."""

    def __init__(self, workers: int) -> None:
        super().__init__(Storage("memory", "as many readers as workers"), workers)

    @property
    def decoders(self) -> int:
        """See ``ReadProfile``: all of them."""
        return self.readers

    @property
    def threads(self) -> int:
        """See ``ReadProfile``: no one beside them."""
        return self.readers


class _OnDisk(ImagesSource):
    """The images of a folder, as late as if it lay on ``disk``."""

    def __init__(self, where: Path, options: SourceOptions, disk: SimulatedDisk) -> None:
        super().__init__(where, options)
        self._disk = disk

    def _file(self, found: ImageLocation, profile: ReadProfile, footprint: Footprint, limit: int) -> ImageFile:
        assert isinstance(found, Path), "the images of a folder are files"
        return SimulatedFile(super()._file(found, profile, footprint, limit), found, self._disk)


def _nothing() -> None:
    pass
