"""Image sequences: folders, globs, lists, numbered files, single files, and remote ones."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rtseg.errors import OptionError, SourceError
from rtseg.frame import Frame, Image
from rtseg.image_io.decode import ChannelsError, ImageError, check_header, decode_pages
from rtseg.image_io.decoders import DecodeOptions, Decoder, open_decoder
from rtseg.image_io.files import Footprint, ImageFile, LocalFile, RemoteFile
from rtseg.image_io.find import ImageLocation, find_files
from rtseg.image_io.header import ImageHeader, read_header
from rtseg.image_io.jobs import Job, Outcome, ReadTimeout, Slot, StorageTimeout
from rtseg.image_io.notes import ImageNotes
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile, decode_threads
from rtseg.image_io.ssd_cache import CachedFile, SsdCache
from rtseg.image_io.storage_kind import Storage, storage_for
from rtseg.image_io.timeout import call_with_timeout
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.system.redact import redact

__all__ = ["ImagesSource"]

_FPS = 25.0
"""Default frame rate of images; ``SourceOptions.fps`` overrides it."""
_MAX_BYTES_PER_PIXEL = 16
"""Of an uncompressed image: 4 channels of 32 bits."""
_DECODE_COPIES = 2
"""Copies of an image while it is decoded: that of the library, and the resulting array."""
_MAX_NAMES = 3
"""In messages and reports."""


class ImagesSource(Source):
    """Images, by default 25 per second. Several threads read ahead and decode, as ``options.reading`` specifies.

    Each image keeps its own size, as from ``decode_image``: grey (H, W, 1), BGR, or with the extra channel that
    ``set_output_format`` requested. Depending on ``on_error``, an unusable image is an error, or it is skipped, counted
    in ``damaged`` and listed in ``damaged_names``, and ``facts`` contains the reason. An image without the requested
    extra channel is always an error.
    """

    takes_fps = True

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Find the images. Iterating opens them.

        Args:
            where: see ``open_source``.
            options: which part to read, and how.

        Raises:
            SourceNotFound: there is no image.
            SourceError: the folder, list or server cannot be read, or does not answer.
            MissingExtra: a package for the URL or the decoder is not installed.
        """
        self._where = where
        self._reading = options.reading
        self._decode = open_decoder(self._reading.decoder)
        self._notes = ImageNotes()
        self._locations = call_with_timeout(self._reading.timeout_s, str(where), lambda: find_files(where, self._notes))
        super().__init__(_name(where), options)
        self.notice = "\n".join(self._notes.lines)
        self._rate = self.fps = options.fps or _FPS
        self.frame_count = len(self._locations)
        folder = self._reading.ssd_cache
        self._cache = SsdCache(folder, int(1e9 * self._reading.cache_gb)) if folder is not None else None
        self._model_size: tuple[int, int] | None = None
        self._first_size: tuple[int, ...] | None = None
        self._faults: dict[str, str] = {}
        self._other_sizes: list[str] = []
        self._storage = Storage("unknown", "nothing was read")
        self._abandoned_threads = 0

    def set_output_format(self, channels: int, size: tuple[int, int] | None = None) -> None:
        """See ``Source``. Whether the files have the extra channel is checked when they are read.

        Raises:
            OptionError: the decoder cannot read extra channels.
        """
        if channels != 3 and self._reading.decoder != "cv2":
            raise OptionError(
                f"--decoder {self._reading.decoder} supports only 3 channels, but the model needs {channels}: use cv2"
            )
        self.channels = channels
        self._model_size = size

    def facts(self) -> dict[str, Any]:
        """See ``Source``: how the images were read, and which were unusable and why."""
        reading = self._reading
        cache = None
        if self._cache is not None:
            counts = {"hits": self._cache.hits, "misses": self._cache.misses, "damaged": self._cache.damaged}
            cache = {"folder": str(self._cache.folder), **counts, "fault": self._cache.fault}
        return {
            "reading": {
                "decoder": reading.decoder,
                "prefetch_mb": reading.prefetch_mb,
                "storage": self._storage.kind,
                "storage_known_by": self._storage.why,
                "faults": [{"name": name, "fault": fault} for name, fault in self._faults.items()],
                "notes": self._notes.lines,
                "of_other_sizes": len(self._other_sizes),
                "of_other_sizes_named": self._other_sizes[:_MAX_NAMES],
                "threads_left_in_stalled_reads": self._abandoned_threads,
                "cache": cache,
            }
        }

    def _read(self) -> Iterator[Frame]:
        # A single file may contain several images, at times of their own.
        is_single = len(self._locations) == 1
        first = 0 if is_single else max(0, int(np.ceil(self.options.start_s * self._rate - 1e-6)))
        locations = self._locations[first:]
        if not locations:
            return
        self._storage = call_with_timeout(
            self._reading.timeout_s, str(self._where), lambda: storage_for(locations[0], self._reading.storage)
        )
        profile = ReadProfile(self._storage, decode_threads())
        prefetch = Prefetch(
            self._jobs(locations, profile),
            profile=profile,
            budget=1_000_000 * self._reading.prefetch_mb,
            timeout_s=self._reading.timeout_s,
            should_stop=lambda: self.stopped,
        )
        usable = 0
        try:
            for index, outcome in enumerate(prefetch):
                image = self._check_outcome(outcome)
                if image is None:
                    continue
                usable += 1
                assert isinstance(outcome.job, _ImageJob), "no other kind of job is submitted here"
                name = outcome.job.page_name(0)
                yield Frame(image, index, (first + index) / self._rate, time.monotonic(), name)
                yield from self._read_pages(outcome.job)
        except StorageTimeout as error:
            raise SourceError(f"{redact(self._where)} does not answer: {error}; check the mount") from error
        finally:
            prefetch.close()
            self._storage = profile.storage
            self.notice = "\n".join(self._notes.lines)
            self._abandoned_threads += prefetch.abandoned_threads
        if not usable and not self.stopped:
            names = "; ".join(f"{name} {fault}" for name, fault in list(self._faults.items())[-_MAX_NAMES:])
            raise SourceError(f"{redact(self._where)}: no image can be used: {names}")

    def _read_pages(self, job: _ImageJob) -> Iterator[Frame]:
        """Yield the images of a single file after its first: pages, or frames at their times, unless ``fps`` is set.

        Raises:
            SourceError: a later image is damaged.
        """
        if job.pages_data is None:
            return
        header, data = job.pages_data
        self.frame_count = len(header.pages)
        durations_s = header.durations_s if self.options.fps is None else ()
        pts_s = 0.0
        options = job.options
        images = decode_pages(data, max_pixels=options.max_pixels, bits=options.bits, note=options.note)
        try:
            for index, image in enumerate(images):
                if index:
                    yield Frame(image, index, pts_s, time.monotonic(), job.page_name(index))
                pts_s += durations_s[index] if durations_s else 1 / self._rate
        except ImageError as error:
            raise SourceError(f"{redact(self._where)}: image {index + 2} of {self.frame_count} {error}") from error

    def _jobs(self, locations: list[ImageLocation], profile: ReadProfile) -> Iterator[_ImageJob]:
        footprint = Footprint()
        reading = self._reading
        limit = _MAX_BYTES_PER_PIXEL * reading.max_pixels
        for location in locations:
            file = self._make_file(location, profile, footprint, limit)
            note = self._notes.for_file(file.name)
            yield _ImageJob(
                CachedFile(file, self._cache) if self._cache is not None else file,
                self._decode,
                DecodeOptions(self.channels, max_pixels=reading.max_pixels, bits=reading.bits, note=note),
                self._model_size if reading.reduce else None,
                read_pages=len(self._locations) == 1 and self.channels == 3,
            )

    def _make_file(self, location: ImageLocation, profile: ReadProfile, footprint: Footprint, limit: int) -> ImageFile:
        """The file of one image; ``rtseg bench`` overrides it to simulate a disk."""
        if isinstance(location, Path):
            return LocalFile(location, profile, footprint, limit)
        return RemoteFile(*location, limit)

    def _check_outcome(self, outcome: Outcome[Image]) -> Image | None:
        """Return the image; None if it is unusable, which is recorded.

        Raises:
            SourceError: this ends the run.
        """
        stop_on_error = self._reading.on_error == "stop"
        if self._cache is not None and self._cache.fault is not None and stop_on_error:
            raise SourceError(f"--ssd-cache: {self._cache.fault}")
        name = outcome.job.name
        if outcome.error is not None:
            fault = _describe_fault(outcome.error)
            if stop_on_error or isinstance(outcome.error, ChannelsError):
                raise SourceError(f"{redact(self._where)}: {name} {fault}") from outcome.error
            self.damaged += 1
            self.damaged_names.append(name)
            self._faults[name] = fault
            return None
        assert outcome.value is not None, "an outcome without an error has a value"
        size = outcome.value.shape[:2]
        self._first_size = self._first_size or size
        if size != self._first_size:
            if stop_on_error:
                (height, width), (first_height, first_width) = size, self._first_size
                raise SourceError(
                    f"{redact(self._where)}: {name} is {height}x{width}, the first image {first_height}x{first_width}"
                )
            self._other_sizes.append(name)
        return outcome.value


class _ImageJob(Job[Image]):
    """One image of a sequence."""

    def __init__(
        self,
        file: ImageFile,
        decode: Decoder,
        options: DecodeOptions,
        model_size: tuple[int, int] | None,
        *,
        read_pages: bool,
    ) -> None:
        self.name = file.name
        self.pages_data: tuple[ImageHeader, bytes] | None = None
        """Header and content of a file with several images, if ``read_pages`` is set."""
        self.options = options
        self._file = file
        self._decode = decode
        self._read_pages = read_pages
        self._model_size = model_size
        self._data = b""

    def page_name(self, index: int) -> str:
        """Return the name of an image of the file: ``a-0003.tif`` for the third of several in ``a.tif``."""
        path = PurePosixPath(self.name)
        return self.name if self.pages_data is None else f"{path.stem}-{index + 1:04}{path.suffix}"

    def announce(self) -> None:
        """See ``Job``."""
        self._file.announce()

    def read(self, slot: Slot) -> int:
        """See ``Job``."""
        try:
            self._data = self._file.read(slot)
        finally:
            self._file.close()
        header = check_header(read_header(self._data), self.options.max_pixels)
        if self._model_size is not None and header.kind == "jpeg" and self.options.channels == 3:
            transposed = header.orientation >= 5
            size = (header.width, header.height) if transposed else (header.height, header.width)
            self.options = replace(self.options, reduce=_reduction(size, self._model_size))
        if self._read_pages and len(header.pages) > 1:
            self.pages_data = header, self._data
        channels = self.options.channels if self.options.channels != 3 or header.channels != 1 else 1
        self.decode_bytes = _DECODE_COPIES * header.pixels * channels // self.options.reduce**2
        return len(self._data)

    def decode(self) -> tuple[Image, int]:
        """See ``Job``."""
        data, self._data = self._data, b""
        options = self.options if self.pages_data is None else replace(self.options, note=None)
        image = self._decode(data, options)
        return image, image.nbytes

    def discard(self) -> None:
        """See ``Job``."""
        self._file.close()


def _reduction(stored: tuple[int, int], model: tuple[int, int]) -> int:
    """Largest factor, 1, 2, 4 or 8, by which the size ``stored`` (H, W) can shrink and still cover ``model``."""
    fitting = (factor for factor in (8, 4, 2) if all(s >= factor * m for s, m in zip(stored, model, strict=True)))
    return next(fitting, 1)


def _describe_fault(error: BaseException) -> str:
    """Why an image cannot be used, as the rest of a sentence that begins with its name."""
    if isinstance(error, ImageError | ReadTimeout):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read: {redact(error.strerror or error)}"
    raise error  # a bug in rtseg: counting it as a damaged image would hide it


def _name(where: str | Path) -> str:
    """The name of a folder, the stem of an image or list, or the last folder of a glob without wildcards."""
    text = str(where)
    if "://" in text and not isinstance(where, Path):
        parts = [part for part in re.split(r"[/:]+", redact(text).partition("?")[0]) if part]
        plain = [part for part in parts[1:] if not set(part) & set("*[%@")]
        return Path(plain[-1]).stem if plain else "images"
    path = Path(text.removeprefix("@"))
    if path.is_dir():
        return path.resolve().name or "images"
    if path.exists():
        return path.stem
    plain = [part for part in path.parent.resolve().parts if not set(part) & set("*?[/")]
    return plain[-1] if plain else "images"
