"""How image files are read: by what, how far ahead, from what kind of storage, and what happens to bad ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["DECODERS", "ON_ERROR", "STORAGES", "ReadOptions"]

DECODERS = ("cv2", "pil", "turbojpeg", "torchvision")
ON_ERROR = ("skip", "stop")
STORAGES = ("auto", "ssd", "hdd")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How image files are read.

    Raises:
        OptionError: a name is not known, or a number is out of range.
    """

    decoder: str = "cv2"
    """One of ``DECODERS``. ``turbojpeg`` decodes JPEG, ``torchvision`` JPEG, PNG and WebP; the rest is cv2's."""
    prefetch_mb: int = 256
    """Bound of what is held of files and images read ahead, in MB (10**6 bytes)."""
    storage: str = "auto"
    """``hdd``: one thread reads, one file after the other; network mounts, too. ``ssd``: many do. ``auto``: as the
    kernel knows of the storage, else measured on the first files."""
    ssd_cache: Path | None = None
    """A folder that keeps a copy of every file read, and is read instead of it the next time."""
    cache_gb: float = 20.0
    """Bound of that folder, in GB (10**9 bytes)."""
    on_error: str = "skip"
    """``skip``: an image that cannot be used is left out, counted and named; one of another size than the first is
    used, counted and named. ``stop``: both end the run."""
    timeout_s: float = 20.0
    """Longest time, in seconds, that the storage may give no data: a disk that sleeps takes ten to wake up."""
    max_pixels: int = 2**27
    """Images of more pixels are not decoded: a small file can ask for gigabytes."""
    reduce: bool = False
    """Decode JPEGs at 1/2, 1/4 or 1/8 where the model's input is smaller by that. Frames and results shrink with it."""

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--decoder", self.decoder, DECODERS),
            ("--storage", self.storage, STORAGES),
            ("--on-error", self.on_error, ON_ERROR),
        ):
            if value not in known:
                raise OptionError(f"{option} must be one of {', '.join(known)}, got {value!r}")
        for option, number, least, most in (
            ("--prefetch-mb", self.prefetch_mb, 1, 1e6),
            ("--cache-gb", self.cache_gb, 0.001, 1e6),
            ("--storage-timeout", self.timeout_s, 0.05, 1e6),
            ("--max-pixels", self.max_pixels, 1, 2**40),
        ):
            if not least <= number <= most:
                raise OptionError(f"{option} must be in {least:g} .. {most:g}, got {number:g}")
        if self.reduce and self.decoder == "torchvision":
            raise OptionError("--reduce needs another --decoder: torchvision decodes at full size alone")
