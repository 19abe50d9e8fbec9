"""Sequences of images: folders, globs, lists, numbered files, single ones, and the same behind a URL."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import OptionError, SourceError
from rtseg.frame import Frame, Image
from rtseg.image_io.decode import ChannelsError, ImageError, check_header
from rtseg.image_io.decoders import DecodeOptions, Decoder, open_decoder
from rtseg.image_io.files import Footprint, ImageFile, LocalFile, RemoteFile
from rtseg.image_io.find import ImageLocation, find_files
from rtseg.image_io.header import read_header
from rtseg.image_io.jobs import Job, Outcome, ReadTimeout, Slot, StorageTimeout
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile, decode_threads
from rtseg.image_io.ssd_cache import CachedFile, SsdCache
from rtseg.image_io.storage_kind import Storage, storage_for
from rtseg.image_io.timeout import call_with_timeout
from rtseg.sources.base import Source, SourceOptions
from rtseg.system.redact import redact

__all__ = ["ImagesSource"]

_FPS = 25.0
_BYTES_A_PIXEL = 16
"""More than any kind of image stores without compression: 4 channels of 32 bits."""
_COPIES = 2
"""Of an image while it is decoded: that of the library, and the array that is made of it."""
_NAMED = 3


class ImagesSource(Source):
    """Images, 25 a second; read ahead and decoded by several threads, within ``options.reading``.

    Each comes in its own size, as ``decode_image`` makes it: grey as (H, W, 1), else BGR, or with the plane beside
    the colours that ``give`` asked for. What cannot be used is skipped, counted in ``damaged`` and noted in
    ``damaged_names``, and ``facts`` tells why, or it is an error, as ``on_error`` says. An image without the plane
    that is asked for always is one.
    """

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Find the images; none is opened yet.

        Args:
            where: see ``open_source``.
            options: which part to read, and how.

        Raises:
            SourceNotFound: no image lies there.
            SourceError: the place cannot be looked into, or does not answer.
            MissingExtra: a package that reads it, or the decoder, is not installed.
        """
        self._where = where
        self._reading = options.reading
        self._decode = open_decoder(self._reading.decoder)
        look = self._reading.timeout_s
        self._found = call_with_timeout(look, str(where), lambda: find_files(where))
        super().__init__(_name(where), options)
        self.fps = _FPS
        self.frame_count = len(self._found)
        folder = self._reading.ssd_cache
        self._cache = SsdCache(folder, int(1e9 * self._reading.cache_gb)) if folder is not None else None
        self._model_size: tuple[int, int] | None = None
        self._size: tuple[int, ...] | None = None
        self._faults: dict[str, str] = {}
        self._others: list[str] = []
        self._storage = Storage("unknown", "nothing was read")
        self._left_behind = 0

    def set_output_format(self, channels: int, size: tuple[int, int] | None = None) -> None:
        """See ``Source.give``: whether the files hold the plane is seen when they are read.

        Raises:
            OptionError: the decoder reads no plane beside the colours.
        """
        if channels != 3 and self._reading.decoder != "cv2":
            raise OptionError(
                f"--decoder {self._reading.decoder} gives 3 channels, the model wants {channels}: take cv2"
            )
        self.channels = channels
        self._model_size = size

    def facts(self) -> dict[str, Any]:
        """See ``Source.facts``: how the images were read, which could not be used, and why."""
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
                "of_other_sizes": len(self._others),
                "of_other_sizes_named": self._others[:_NAMED],
                "threads_left_in_stalled_reads": self._left_behind,
                "cache": cache,
            }
        }

    def _read(self) -> Iterator[Frame]:
        first = 0 if self.options.start_s <= 0 else int(np.ceil(self.options.start_s * _FPS - 1e-6))
        found = self._found[first:]
        if not found:
            return
        self._storage = call_with_timeout(
            self._reading.timeout_s, str(self._where), lambda: storage_for(found[0], self._reading.storage)
        )
        profile = ReadProfile(self._storage, decode_threads())
        ahead = Prefetch(
            self._jobs(found, profile),
            profile=profile,
            budget=1_000_000 * self._reading.prefetch_mb,
            timeout_s=self._reading.timeout_s,
            should_stop=lambda: self.stopped,
        )
        seen = 0
        try:
            for index, outcome in enumerate(ahead):
                image = self._judged(outcome)
                if image is None:
                    continue
                seen += 1
                name = outcome.job.name
                yield Frame(image, index, (first + index) / _FPS, time.monotonic(), name)
        except StorageTimeout as error:
            raise SourceError(f"{redact(self._where)} does not answer: {error}; check the mount") from error
        finally:
            ahead.close()
            self._storage = profile.storage
            self._left_behind += ahead.abandoned_threads
        if not seen and not self.stopped:
            names = "; ".join(f"{name} {fault}" for name, fault in list(self._faults.items())[-_NAMED:])
            raise SourceError(f"{redact(self._where)}: not one image can be used: {names}")

    def _jobs(self, found: list[ImageLocation], profile: ReadProfile) -> Iterator[_ImageJob]:
        footprint = Footprint()
        reading = self._reading
        limit = _BYTES_A_PIXEL * reading.max_pixels
        for one in found:
            file = self._file(one, profile, footprint, limit)
            yield _ImageJob(
                CachedFile(file, self._cache) if self._cache is not None else file,
                self._decode,
                DecodeOptions(self.channels, max_pixels=reading.max_pixels),
                self._model_size if reading.reduce else None,
            )

    def _file(self, found: ImageLocation, profile: ReadProfile, footprint: Footprint, limit: int) -> ImageFile:
        """What one of the images is read from."""
        if isinstance(found, Path):
            return LocalFile(found, profile, footprint, limit)
        return RemoteFile(*found, limit)

    def _judged(self, outcome: Outcome[Image]) -> Image | None:
        """The image; None where there is none, which is taken note of.

        Raises:
            SourceError: it ends the run.
        """
        stops = self._reading.on_error == "stop"
        if self._cache is not None and self._cache.fault is not None and stops:
            raise SourceError(f"--ssd-cache: {self._cache.fault}")
        name = outcome.job.name
        if outcome.error is not None:
            fault = _fault(outcome.error)
            if stops or isinstance(outcome.error, ChannelsError):
                raise SourceError(f"{redact(self._where)}: {name} {fault}") from outcome.error
            self.damaged += 1
            self.damaged_names.append(name)
            self._faults[name] = fault
            return None
        assert outcome.value is not None, "what has no error has a value"
        size = outcome.value.shape[:2]
        self._size = self._size or size
        if size != self._size:
            if stops:
                (height, width), (first_height, first_width) = size, self._size
                raise SourceError(
                    f"{redact(self._where)}: {name} is {height}x{width}, the first image {first_height}x{first_width}"
                )
            self._others.append(name)
        return outcome.value


class _ImageJob(Job[Image]):
    """One image of a sequence."""

    def __init__(
        self,
        file: ImageFile,
        decode: Decoder,
        wanted: DecodeOptions,
        model_size: tuple[int, int] | None,
    ) -> None:
        self.name = file.name
        self._file = file
        self._decode = decode
        self._wanted = wanted
        self._model_size = model_size
        self._data = b""

    def announce(self) -> None:
        """See ``Job``."""
        self._file.announce()

    def read(self, slot: Slot) -> int:
        """See ``Job``."""
        try:
            self._data = self._file.read(slot)
        finally:
            self._file.close()
        head = check_header(read_header(self._data), self._wanted.max_pixels)
        if self._model_size is not None and head.kind == "jpeg" and self._wanted.channels == 3:
            turned = head.orientation >= 5
            height, width = (head.width, head.height) if turned else (head.height, head.width)
            reduce = _reduction((height, width), self._model_size)
            self._wanted = DecodeOptions(3, reduce, self._wanted.max_pixels)
        channels = self._wanted.channels if self._wanted.channels != 3 or head.channels != 1 else 1
        self.decode_bytes = _COPIES * head.pixels * channels // self._wanted.reduce**2
        return len(self._data)

    def decode(self) -> tuple[Image, int]:
        """See ``Job``."""
        data, self._data = self._data, b""
        image = self._decode(data, self._wanted)
        return image, image.nbytes

    def discard(self) -> None:
        """See ``Job``."""
        self._file.close()


def _reduction(stored: tuple[int, int], model: tuple[int, int]) -> int:
    """By how much an image of ``stored`` (H, W) may be smaller without being smaller than ``model``: 1, 2, 4 or 8."""
    return next((by for by in (8, 4, 2) if stored[0] >= by * model[0] and stored[1] >= by * model[1]), 1)


def _fault(error: BaseException) -> str:
    """Why an image cannot be used, as a part of a sentence that begins with its name."""
    if isinstance(error, ImageError | ReadTimeout):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read: {redact(error.strerror or error)}"
    raise error  # a slip of ours: to count it as a bad image would hide it


def _name(where: str | Path) -> str:
    """A folder's name, an image's or list's stem, or for a glob the last folder that it names."""
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
