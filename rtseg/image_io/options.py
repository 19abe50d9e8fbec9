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

    decoder: Annotated[str, Option(_PANEL, choices=DECODERS)] = "cv2"
    """Library that decodes images. ``turbojpeg`` decodes JPEG, ``torchvision`` JPEG, PNG and WebP; cv2 decodes the
    rest."""
    prefetch_mb: Annotated[int, Option(_PANEL)] = 256
    """Memory for files and images that are read ahead, in MB (10**6 bytes)."""
    storage: Annotated[str, Option(_PANEL, choices=STORAGES)] = "auto"
    """Kind of storage. ``hdd``: read one file after the other (also for network mounts). ``ssd``: read several at
    once. ``auto``: as the kernel describes it; if it does not, the first files are timed."""
    ssd_cache: Annotated[Path | None, Option(_PANEL, metavar="FOLDER")] = None
    """Folder on an SSD for copies of all files that are read; the next run reads the copies."""
    cache_gb: Annotated[float, Option(_PANEL)] = 20.0
    """Size limit of that folder, in GB (10**9 bytes)."""
    on_error: Annotated[str, Option(_PANEL, choices=ON_ERROR)] = "skip"
    """What to do with images that cannot be used. ``skip``: leave them out and list them; list images of another
    size, too. ``stop``: end the run at either."""
    timeout_s: Annotated[float, Option(_PANEL, ("--storage-timeout",))] = 20.0
    """Longest wait, in seconds, for storage that sends no data. A sleeping disk needs about ten to start."""
    max_pixels: Annotated[int, Option(_PANEL)] = 2**27
    """Do not decode images with more pixels: a small file can ask for gigabytes of memory."""
    bits: Annotated[int | None, Option(_PANEL, default="as the file declares, else 16")] = None
    """Significant bits of images stored with 16: 12 for a camera whose values end at 4095."""
    reduce: Annotated[bool, Option(_PANEL)] = False
    """Decode JPEGs at 1/2, 1/4 or 1/8 of their size if the model's input is that much smaller. The results have the
    reduced size."""

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
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise OptionError(f"--bits must be in 8 .. 16, got {self.bits}")
        if self.reduce and self.decoder == "torchvision":
            raise OptionError("--reduce needs another --decoder: torchvision only decodes at full size")
