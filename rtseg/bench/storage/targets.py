"""Where the images lie that are read: ``--storage ssd=/mnt/nvme``, and whether that is what it is said to be."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.bench.storage.page_cache import drop
from rtseg.errors import OptionError, SourceError
from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.storage_kind import Storage, find_storage

__all__ = ["Place", "check_kind", "measured", "parse_places"]

_KINDS = ("ssd", "hdd", "auto")
_MEASURED = 8
"""Files of which the first byte is timed where the kernel does not know the storage."""


@dataclass(frozen=True, slots=True)
class Place:
    """One ``--storage``."""

    label: str
    """As table, JSON and chart call it, e.g. ``ssd /mnt/nvme``."""
    kind: str
    """``ssd``, ``hdd`` or ``auto``, whatever it is."""
    folder: Path | None
    """Where the set is written; None: into the folder for temporary files, or read where ``--data`` has it."""
    simulated: bool = False


def parse_places(texts: Sequence[str], *, simulate: bool = False) -> list[Place]:
    """The storages that are named, each ``KIND`` or ``KIND=FOLDER``.

    Args:
        texts: as they were given.
        simulate: whether hard disks are simulated.

    Raises:
        OptionError: a kind is not known, a folder is not there, one is named twice, or there is no disk to simulate.
    """
    places: list[Place] = []
    for text in texts:
        kind, equals, folder = text.partition("=")
        if kind not in _KINDS or (equals and not folder):
            raise OptionError(f"--storage wants {', '.join(_KINDS)}, or e.g. ssd=/mnt/nvme; got {text!r}")
        if folder and not Path(folder).is_dir():
            raise OptionError(f"--storage {text}: there is no folder {folder}; make it or give another")
        label = f"{kind} {folder}" if folder else kind
        if label in [place.label for place in places]:
            raise OptionError(f"--storage {text} is given twice: leave one out")
        places.append(Place(label, kind, Path(folder) if folder else None, simulate and kind == "hdd"))
    if simulate and not any(place.simulated for place in places):
        raise OptionError("--simulate is for a hard disk: give --storage hdd, too")
    return places


def check_kind(place: Place, folder: Path, storage: Storage) -> None:
    """Refuse a folder that is of another kind than its ``--storage`` says. One of unknown kind may be of any.

    Raises:
        OptionError: it is.
    """
    option = f"--storage {place.kind}{f'={place.folder}' if place.folder else ''}"
    if place.simulated:
        if storage.kind == "hdd":
            raise OptionError(f"{option}: {folder} is on a hard disk ({storage.why}): leave --simulate out")
        return
    if place.kind == "auto" or storage.kind in (place.kind, "unknown"):
        return
    way_out = "give a folder on one, or --simulate" if place.kind == "hdd" else "give a folder on one"
    raise OptionError(f"{option}: {folder} is {storage.kind} ({storage.why}), no {place.kind}: {way_out}")


def measured(folder: Path, paths: Sequence[Path]) -> Storage:
    """The storage of ``folder``; where the kernel does not know, from the time until the first byte of its files.

    Args:
        folder: where.
        paths: images in it; they are dropped from memory.

    Raises:
        SourceError: one cannot be read.
    """
    storage = find_storage(folder)
    if storage.kind != "unknown":
        return storage
    profile = ReadProfile(storage, 1)
    some = list(paths[:_MEASURED])
    if drop(some) > 0:
        return storage
    while profile.is_measuring:  # the pace wants so many; of a small set some are read more than once
        for path in some:
            profile.record_first_byte(_first_byte_s(path), from_memory=False)
        drop(some)
    return profile.storage


def _first_byte_s(path: Path) -> float:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            begun_s = time.monotonic()
            os.pread(fd, 1, 0)
            return time.monotonic() - begun_s
        finally:
            os.close(fd)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): take it out") from error
