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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rtseg.errors import SinkError
from rtseg.system.file_names import encode_text
from rtseg.system.redact import redact_values

__all__ = [
    "PartFile",
    "atomic_path",
    "check_folder_writable",
    "check_writable",
    "failure_reason",
    "is_part",
    "part_path",
    "sink_errors",
    "write_bytes",
    "write_json",
    "write_text",
]

SYNC_S: Final = 2.0
"""Longest time, in seconds, that written data may exist only in the memory of the machine."""
_PART: Final = ".part"
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
def atomic_path(path: Path, *, unique: bool = False, sync: bool = False) -> Iterator[Path]:
    """Yield a path to write to; rename it to ``path`` at the end, or remove it if the block raises.

    Args:
        path: the final name.
        unique: see ``part_path``.
        sync: write the data to the disk before renaming, so that a power cut cannot leave an empty file.

    Raises:
        OSError: the file cannot be synced or renamed.
    """
    part = part_path(path, unique=unique)
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


def failure_reason(error: BaseException) -> str:
    """Why writing failed, in a few words on one line."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"the disk is full ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def check_writable(path: Path, label: str) -> None:
    """Check before a long run that ``path`` can be written. Leaves nothing behind.

    Args:
        path: the final name.
        label: how the message begins, e.g. ``video out.mp4``.

    Raises:
        SinkError: it is a folder or a device, its folder is missing, or no file can be created there.
    """
    if path.is_dir():
        raise SinkError(f"{label} is a folder: give a file name in it")
    if path.exists() and not path.is_file():
        # Renaming over a device would remove it for the whole machine.
        raise SinkError(f"{label} cannot be written, {path} is not a regular file: give another name")
    if not path.parent.is_dir():
        raise SinkError(f"{label} cannot be written, there is no folder {path.parent}: create it or choose another")
    part = part_path(path)
    existed = part.exists()
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT, 0o666))
        if not existed:
            part.unlink()
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
    existing = next(candidate for candidate in (folder, *folder.absolute().parents) if candidate.exists())
    if not existing.is_dir():
        raise SinkError(f"{label} cannot be written, {existing} is a file: choose another folder")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise SinkError(f"{label} cannot be written, {failure_reason(error)}: choose another folder") from error


class PartFile:
    """A stream to a part file, for PyAV and for plain bytes.

    ``mark`` records how much of the content is complete. After the first failed write the file is *broken*: it
    ignores further writes, so that the clean-up of a muxer cannot damage complete content, and ``keep`` cuts the
    file back to the last mark.

    Raises:
        OSError: the part file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_path(path)
        self.broken = False
        # Replaces a stale part of an earlier run. Unbuffered, so that written data survives a crash of this process.
        self._file = self.part.open("w+b", buffering=0)
        self._complete_bytes = 0
        self._synced_s = time.monotonic()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data`` or fail.

        Raises:
            OSError: the first write that fails; later calls do nothing.
        """
        view = memoryview(data)
        while len(view) and not self.broken:
            try:
                # On a nearly full disk a write may be short; the next one raises the reason.
                view = view[self._file.write(view) :]
            except OSError:
                self.broken = True
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Like ``seek`` of a file object."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Like ``tell`` of a file object."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Like ``read`` of a file object; PyAV requires it before it seeks."""
        return self._file.read(size)

    def mark(self) -> None:
        """Record that everything written so far is complete; sync it to the disk every ``SYNC_S``.

        Raises:
            OSError: syncing failed. Only this call notices a disk that fails late.
        """
        self._complete_bytes = self._file.tell()
        if time.monotonic() - self._synced_s >= SYNC_S:
            self._sync()

    def commit(self) -> None:
        """Close the file and rename it to its final name.

        Raises:
            OSError: syncing or renaming failed; the part file still exists.
        """
        try:
            self._sync()
        finally:
            self._file.close()
        self.part.replace(self.path)

    def keep(self) -> int:
        """Close the file after a failure, under its part name, cut back to the last mark.

        Returns:
            Its size in bytes; 0 if nothing was complete, and then the file is removed.
        """
        self.broken = True
        if not self._file.closed:
            # A full disk still allows truncation; if even that fails, the file only has an incomplete end.
            with contextlib.suppress(OSError):
                self._file.truncate(self._complete_bytes)
            self._file.close()
        if self._complete_bytes == 0:
            self.part.unlink(missing_ok=True)
        return self._complete_bytes

    def _sync(self) -> None:
        try:
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._file.fileno())
        except OSError:
            self.broken = True
            raise
        self._synced_s = time.monotonic()
