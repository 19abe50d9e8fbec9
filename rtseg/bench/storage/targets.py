"""The storages to measure, as ``--storage ssd=/mnt/nvme`` names them, and whether they are of the stated kind."""

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

__all__ = ["TargetFolder", "check_kind", "measure_kind", "parse_targets"]

_KINDS = ("ssd", "hdd", "auto")
_SAMPLES = 8
"""How many files are timed if the kernel does not know the kind of the storage."""


@dataclass(frozen=True, slots=True)
class TargetFolder:
    """One ``--storage`` option."""

    label: str
    """The name in tables, JSON and chart, e.g. ``ssd /mnt/nvme``."""
    kind: str
    """``ssd``, ``hdd``, or ``auto`` for any kind."""
    folder: Path | None
    """Where the images are written. None: to the folder for temporary files, or read where ``--data`` has them."""
    simulated: bool = False


def parse_targets(texts: Sequence[str], *, simulate: bool = False) -> list[TargetFolder]:
    """Parse ``--storage`` options, each ``KIND`` or ``KIND=FOLDER``.

    Args:
        texts: the values.
        simulate: whether hard disks are simulated.

    Raises:
        OptionError: a kind is unknown, a folder is missing, one is given twice, or there is no disk to simulate.
    """
    targets: list[TargetFolder] = []
    for text in texts:
        kind, equals, folder = text.partition("=")
        if kind not in _KINDS or (equals and not folder):
            raise OptionError(f"--storage must be one of {', '.join(_KINDS)}, or e.g. ssd=/mnt/nvme; got {text!r}")
        if folder and not Path(folder).is_dir():
            raise OptionError(f"--storage {text}: there is no folder {folder}: create it or give another")
        label = f"{kind} {folder}" if folder else kind
        if label in [target.label for target in targets]:
            raise OptionError(f"--storage {text} is given twice: remove one")
        targets.append(TargetFolder(label, kind, Path(folder) if folder else None, simulate and kind == "hdd"))
    if simulate and not any(target.simulated for target in targets):
        raise OptionError("--simulate is for a hard disk: add --storage hdd")
    return targets


def check_kind(target: TargetFolder, folder: Path, storage: Storage) -> None:
    """Refuse a folder whose storage is of another kind than stated. A storage of unknown kind is accepted.

    Raises:
        OptionError: the kind is wrong.
    """
    option = f"--storage {target.kind}{f'={target.folder}' if target.folder else ''}"
    if target.simulated:
        if storage.kind == "hdd":
            raise OptionError(f"{option}: {folder} is on a hard disk ({storage.why}): remove --simulate")
        return
    if target.kind == "auto" or storage.kind in (target.kind, "unknown"):
        return
    advice = "give a folder on one, or --simulate" if target.kind == "hdd" else "give a folder on one"
    raise OptionError(f"{option}: {folder} is {storage.kind} ({storage.why}), not {target.kind}: {advice}")


def measure_kind(folder: Path, paths: Sequence[Path]) -> Storage:
    """Find the storage of ``folder``. If the kernel does not know it, time the first byte of some files.

    Args:
        folder: the folder.
        paths: images in it; they are dropped from the page cache.

    Raises:
        SourceError: an image cannot be read.
    """
    storage = find_storage(folder)
    if storage.kind != "unknown":
        return storage
    profile = ReadProfile(storage, 1)
    samples = list(paths[:_SAMPLES])
    if drop(samples) > 0:
        return storage
    while profile.is_measuring:  # files of a small set are read more than once
        for path in samples:
            profile.record_first_byte(_first_byte_s(path), from_memory=False)
        drop(samples)
    return profile.storage


def _first_byte_s(path: Path) -> float:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            started_s = time.monotonic()
            os.pread(fd, 1, 0)
            return time.monotonic() - started_s
        finally:
            os.close(fd)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): remove it") from error
