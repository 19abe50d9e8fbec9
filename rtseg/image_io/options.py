"""Options for reading image files: decoder, prefetching, storage, cache and error handling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["DECODERS", "ON_ERROR", "STORAGES", "ReadOptions"]

DECODERS = ("cv2", "pil", "turbojpeg", "torchvision")
ON_ERROR = ("skip", "stop")
STORAGES = ("auto", "ssd", "hdd")
_PANEL = "Reading image files"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading image files.

    Raises:
        OptionError: a name is unknown, or a number is out of range.
    """

    decoder: str = "cv2"
    """One of ``DECODERS``. ``turbojpeg`` decodes JPEG, ``torchvision`` JPEG, PNG and WebP; cv2 decodes the rest."""
    prefetch_mb: int = 256
    """Memory limit for files and images that were read ahead, in MB (10**6 bytes)."""
    storage: str = "auto"
    """``hdd``: one thread reads one file after the other (also for network mounts). ``ssd``: several threads read.
    ``auto``: as the kernel describes the storage; if it does not, the first files are timed."""
    ssd_cache: Path | None = None
    """A folder for copies of all files that were read; the next run reads the copies."""
    cache_gb: float = 20.0
    """Size limit of that folder, in GB (10**9 bytes)."""
    on_error: str = "skip"
    """``skip``: leave out images that cannot be used; count and list them, and also images whose size differs from the
    first one. ``stop``: end the run at either."""
    timeout_s: float = 20.0
    """Longest time in seconds without data from the storage. A sleeping disk needs about ten to start."""
    max_pixels: int = 2**27
    """Images with more pixels are not decoded: a small file can ask for gigabytes of memory."""
    reduce: bool = False
    """Decode JPEGs at 1/2, 1/4 or 1/8 of their size if the model input is that small. Frames and results shrink too."""

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--decoder", self.decoder, DECODERS),
            ("--storage", self.storage, STORAGES),
            ("--on-error", self.on_error, ON_ERROR),
        ):
            if value not in known:
                raise OptionError(f"{option} must be one of {', '.join(known)}, got {value!r}")
        for option, number, low, high in (
            ("--prefetch-mb", self.prefetch_mb, 1, 1e6),
            ("--cache-gb", self.cache_gb, 0.001, 1e6),
            ("--storage-timeout", self.timeout_s, 0.05, 1e6),
            ("--max-pixels", self.max_pixels, 1, 2**40),
        ):
            if not low <= number <= high:
                raise OptionError(f"{option} must be in {low:g} .. {high:g}, got {number:g}")
        if self.reduce and self.decoder == "torchvision":
            raise OptionError("--reduce needs another --decoder: torchvision only decodes at full size")
