"""Write files atomically: to a part file in the same folder, which gets the final name once it is complete.

Readers of the final name see the old file or the new one, never an incomplete one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rtseg.errors import SinkError
from rtseg.system.file_names import encode_text
from rtseg.system.output_lock import check_name, open_locked
from rtseg.system.redact import redact_values

__all__ = [
    "OutputExists",
    "atomic_path",
    "check_folder_writable",
    "check_writable",
    "create_folder",
    "failure_reason",
    "is_disk_full",
    "is_part",
    "locked_output",
    "open_part",
    "part_path",
    "sink_errors",
    "write_bytes",
    "write_json",
    "write_text",
]

_PART: Final = ".part"
_OPTIONS: Final = {"masks": "--masks", "polygons": "--polygons", "statistics": "--stats", "report": "--report"}
"""First word of a label -> the option that names the file; others are ``--output``."""
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; see ``encode_text``.

    Raises:
        SinkError: the file cannot be written.
    """
    write_bytes(path, encode_text(text))


def write_json(path: Path, facts: Any) -> None:
    """Write a report as JSON, atomically and without the secrets of URLs.

    Raises:
        SinkError: the file cannot be written.
    """
    text = json.dumps(redact_values(facts), indent=2, ensure_ascii=False) + "\n"
    # A file name that is not UTF-8 contains lone surrogates, which become JSON escapes.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, atomically.

    Raises:
        SinkError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        # Renaming over a device would remove it for the whole machine.
        raise SinkError(f"cannot write {path}: it is not a regular file; choose another path")
    with sink_errors(path), atomic_path(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def atomic_path(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a new, empty file to write to; rename it to ``path`` at the end, or remove it if the block raises.

    Its name is unique: several processes may write ``path`` at once, and the last one to finish replaces the others.

    Args:
        path: the final name.
        sync: write the data to the disk before renaming, so that a power cut cannot leave an empty file.

    Raises:
        OSError: the file cannot be created, synced or renamed.
    """
    part = part_path(path, unique=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield part
        if sync:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # where nothing can be written, removing may fail too
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def sink_errors(path: Path, next_step: str = "choose another path") -> Iterator[None]:
    """Turn an OSError raised in the block into a SinkError that names ``path`` and the ``next_step``."""
    try:
        yield
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; {next_step}") from error


def create_folder(folder: Path) -> None:
    """Create ``folder`` with its parents, if it is missing, for results below ``--output``.

    Raises:
        SinkError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot create the folder {folder}: {error.strerror}; give another --output") from error


def part_path(path: Path, *, unique: bool = False) -> Path:
    """The name of ``path`` until it is complete: ``out.part.mp4`` for ``out.mp4``. The suffix stays, so it plays.

    Args:
        path: the final name.
        unique: return a different name on every call, for a file that several processes may write at once.
    """
    token = f".{secrets.token_hex(4)}" if unique else ""
    return path.with_name(f"{path.stem}{token}{_PART}{path.suffix}")


def is_part(path: Path) -> bool:
    """Whether ``path`` is a name that ``part_path`` makes."""
    return path.stem.endswith(_PART)


class OutputExists(SinkError):
    """There is already a file of this name, which must not be replaced."""


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room left, or no quota."""
    return error.errno in _DISK_FULL


def failure_reason(error: BaseException) -> str:
    """Why writing failed, in a few words on one line."""
    if isinstance(error, OSError) and is_disk_full(error):
        return f"the disk is full ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def check_writable(path: Path, label: str, *, overwrite: bool = True) -> None:
    """Check before a long run that ``path`` can be written. Leaves nothing behind.

    Args:
        path: the final name.
        label: how the message begins, e.g. ``video out.mp4``.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputExists: there is such a file, and it must not be replaced.
        SinkError: it is a folder or a device, its folder is missing, no file can be created there, or another run
            is writing it.
    """
    with locked_output(path, label, overwrite=overwrite):
        pass


@contextlib.contextmanager
def locked_output(path: Path, label: str, *, overwrite: bool = True) -> Iterator[None]:
    """Check that ``path`` can be written, and keep other runs from writing it until the end of the block.

    Args:
        path: the final name; the block may write it with ``write_bytes`` or ``atomic_path``.
        label: how the message begins, e.g. ``--report out.json``.
        overwrite: whether an existing file may be replaced.

    Raises:
        SinkError: see ``check_writable``.
    """
    descriptor = open_part(path, label, overwrite=overwrite)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if not os.fstat(descriptor).st_size:
                part_path(path).unlink(missing_ok=True)
        os.close(descriptor)


def open_part(path: Path, label: str, *, overwrite: bool) -> int:
    """Open and lock the part file of ``path``; return its descriptor. See ``check_writable``."""
    check_name(path, label)
    if path.is_dir():
        raise SinkError(f"{label} is a folder: give a file name in it")
    if path.exists() and not path.is_file():
        # Renaming over a device would remove it for the whole machine.
        raise SinkError(f"{label} cannot be written, {path} is not a regular file: give another name")
    if not path.parent.is_dir():
        raise SinkError(f"{label} cannot be written, there is no folder {path.parent}: create it or choose another")
    if not overwrite and os.path.lexists(path):
        raise OutputExists(f"{label} exists: give another name, or replace it with --overwrite")
    first = label.partition(" ")[0]
    try:
        return open_locked(part_path(path), _OPTIONS.get(first, first if first.startswith("--") else "--output"))
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{label} cannot be written, {failure_reason(error)}: choose another path") from error


def check_folder_writable(folder: Path, label: str) -> None:
    """Check before a long run that files can be created in ``folder``. Leaves nothing behind.

    Args:
        folder: may be missing; then its nearest existing parent is checked.
        label: how the message begins, e.g. ``masks out``.

    Raises:
        SinkError: it or a parent is a file, or no file can be created there.
    """
    check_name(folder, label)
    existing = next(candidate for candidate in (folder, *folder.absolute().parents) if candidate.exists())
    if not existing.is_dir():
        raise SinkError(f"{label} cannot be written, {existing} is a file: choose another folder")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise SinkError(f"{label} cannot be written, {failure_reason(error)}: choose another folder") from error
