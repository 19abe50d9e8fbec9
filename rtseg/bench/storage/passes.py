"""Read and decode a set of images once: by a number of workers, or by the reader of rtseg."""

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
from rtseg.sources.base import Source
from rtseg.sources.images import ImagesSource
from rtseg.sources.options import SourceOptions

__all__ = ["AUTO", "CACHE_TOLERANCE", "Pass", "Setup", "unsupported_reason"]

AUTO = "auto"
"""Instead of a number of workers: the reader of rtseg, as ``rtseg stream`` uses it."""
CACHE_TOLERANCE = 0.01
"""At most this share of the set may be in memory before a cold pass, or missing from memory before a warm one."""
_FORMATS = {"turbojpeg": {".jpg", ".jpeg", ".jpe"}, "torchvision": {".jpg", ".jpeg", ".jpe", ".png", ".webp"}}
"""Suffixes of the formats that a decoder supports; the other decoders support all."""
_MAX_FILE_BYTES = 2**40
"""No real limit: the images are the user's own."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The measurements of one pass over the set."""

    images_per_s: float
    mb_per_s: float
    """File bytes, in 10**6 bytes per second, over the same time."""
    in_memory: float
    """Share of the set that was in the page cache before the pass, 0 to 1."""


def unsupported_reason(decoder: str, images: ImageSet) -> str | None:
    """Return in a few words why ``decoder`` cannot read a set; None if it can."""
    formats = _FORMATS.get(decoder)
    others = [suffix for suffix in images.facts["formats"] if formats is not None and suffix not in formats]
    if others:
        return f"{decoder} decodes no {' '.join(suffix.lstrip('.').upper() for suffix in others)}"
    try:
        open_decoder(decoder)
    except MissingExtra as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class Setup:
    """A set of images on a storage, and how to read it.

    Args:
        images: the set.
        profile: value of ``ReadOptions.storage``.
        disk: the simulated hard disk to read from, or None.
        prefetch_mb: memory limit for files that are read ahead.
    """

    images: ImageSet
    profile: str
    disk: SimulatedDisk | None
    prefetch_mb: int

    def read(self, decoder: str, workers: int | str, *, cold: bool) -> Pass:
        """Read and decode all images once.

        Args:
            decoder: one of ``rtseg.image_io.options.DECODERS``.
            workers: number of threads that each read and decode; 0: only the calling thread. Or ``AUTO``.
            cold: whether the files are dropped from the page cache before the pass; otherwise they are loaded into it.

        Raises:
            SourceError: an image cannot be used.
        """
        in_memory = self.drop_from_memory() if cold else self.load_into_memory()
        if workers == AUTO:
            return self._measure(self._read_source(self.source(decoder)), in_memory)
        return self._measure(self._read_with_workers(decoder, int(workers)), in_memory)

    def read_through(self, cache: Path) -> Pass:
        """Read and decode all images once with the reader of rtseg and ``--ssd-cache``. Files and cache are cold.

        Raises:
            SourceError: an image cannot be used.
        """
        in_memory = self.drop_from_memory()
        drop(path for path in cache.rglob("*") if path.is_file())
        source = self.source("cv2", cache)
        result = self._measure(self._read_source(source), in_memory)
        fault = source.facts()["reading"]["cache"]["fault"]
        if fault is not None:
            raise SourceError(f"--ssd-cache: {fault}: give another folder")
        return result

    def drop_from_memory(self) -> float:
        """Drop the set from the page cache; return the share that stayed."""
        if self.disk is not None:
            self.disk.forget()
        return drop(self.images.paths)

    def load_into_memory(self) -> float:
        """Load the set into the page cache; return the share that is in it."""
        if self.disk is not None:
            self.disk.keep(self.images.paths)
        return load(self.images.paths)

    def source(self, decoder: str, cache: Path | None = None) -> Source:
        """Return a source that reads the set once. Check it with ``check_no_damage`` afterwards."""
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
        return _SimulatedImagesSource(self.images.folder, options, self.disk)

    def _read_source(self, source: Source) -> Iterator[None]:
        with closing(iter(source)) as frames:  # type: ignore[type-var]
            for _ in frames:
                yield None
        check_no_damage(source)

    def _read_with_workers(self, decoder: str, workers: int) -> Iterator[None]:
        jobs = self._jobs(open_decoder(decoder), _WorkersProfile(max(1, workers)))
        if workers == 0:
            for job in jobs:
                try:
                    job.read(Slot(lambda: None, lambda: None))
                    job.decode()
                except (ImageError, OSError) as error:
                    raise self._error(job, error) from error
                yield None
            return
        budget = 1_000_000 * self.prefetch_mb
        timeout_s = ReadOptions().timeout_s
        with Prefetch(jobs, profile=_WorkersProfile(workers), budget=budget, timeout_s=timeout_s) as ahead:
            try:
                for outcome in ahead:
                    if isinstance(outcome.error, ImageError | OSError):
                        raise self._error(outcome.job, outcome.error) from outcome.error
                    if outcome.error is not None:
                        raise outcome.error  # a bug in rtseg
                    yield None
            except StorageTimeout as error:
                raise SourceError(f"{self.images.folder} does not answer: {error}: check the mount") from error

    def _error(self, job: Job[Image], error: Exception) -> SourceError:
        reason = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
        return SourceError(f"{self.images.folder}: {job.name} {reason}: remove it")

    def _jobs(self, decode: Decoder, profile: ReadProfile) -> Iterator[_ImageJob]:
        footprint = Footprint()
        for path in self.images.paths:
            file: ImageFile = LocalFile(path, profile, footprint, _MAX_FILE_BYTES)
            yield _ImageJob(SimulatedFile(file, path, self.disk) if self.disk is not None else file, decode)

    def _measure(self, images: Iterator[None], in_memory: float) -> Pass:
        # Timed from the start of reading, not from the first image: by then, a reader that works ahead has already
        # decoded several more, or the whole set if it is small.
        times_s = [time.perf_counter()]
        times_s += [time.perf_counter() for _ in images]
        images_per_s = rate(times_s)
        mean_bytes = self.images.size_bytes / len(self.images.paths)
        return Pass(images_per_s, images_per_s * mean_bytes / 1e6, in_memory)


def check_no_damage(source: Source) -> None:
    """Check after a pass that no image was skipped, because that would make the others look faster.

    Raises:
        SourceError: an image was skipped.
    """
    if source.damaged:
        names = ", ".join(source.damaged_names[:3])
        raise SourceError(f"{source.name}: {source.damaged} images cannot be used ({names}): remove them")


class _ImageJob(Job[Image]):
    """Read and decode one file."""

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


class _WorkersProfile(ReadProfile):
    """Each worker reads a file and decodes it, like the workers of a data loader, on every kind of storage."""

    def __init__(self, workers: int) -> None:
        super().__init__(Storage("memory", "as many readers as workers"), workers)

    @property
    def decoders(self) -> int:
        """All workers."""
        return self.readers

    @property
    def threads(self) -> int:
        """Only the workers."""
        return self.readers


class _SimulatedImagesSource(ImagesSource):
    """The images of a folder, read from a simulated disk."""

    def __init__(self, where: Path, options: SourceOptions, disk: SimulatedDisk) -> None:
        super().__init__(where, options)
        self._disk = disk

    def _make_file(self, location: ImageLocation, profile: ReadProfile, footprint: Footprint, limit: int) -> ImageFile:
        assert isinstance(location, Path), "a folder contains local files"
        return SimulatedFile(super()._make_file(location, profile, footprint, limit), location, self._disk)
