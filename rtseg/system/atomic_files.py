"""Writing small files so that no one ever reads half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from rtseg.errors import SinkError

__all__ = ["PartFile", "check_folder_writable", "check_writable", "part_path", "reason", "write_bytes", "write_text"]

SYNC_S: Final = 2.0
"""Longest time, in seconds, that what was written may be in the memory of the machine alone."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_text(path: Path, text: str) -> None:
    """Write ``text``, as UTF-8, beside ``path``, then rename.

    Raises:
        SinkError: it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, then rename.

    Raises:
        SinkError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        # To rename over a device would take it from the whole machine.
        raise SinkError(f"cannot write {path}: it is no regular file; give another place")
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what the path does not allow to write, it may not allow to remove
            part.unlink(missing_ok=True)
        raise SinkError(f"cannot write {path}: {error.strerror}; give another place") from error


def part_path(path: Path) -> Path:
    """Where ``path`` is written until it is whole: ``out.mp4`` becomes ``out.part.mp4``, which plays."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def reason(error: BaseException) -> str:
    """Why writing failed, in a few words of one line."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def check_writable(path: Path, what: str) -> None:
    """Find out before a long run whether ``path`` can be written, leaving nothing behind.

    Args:
        path: the final name.
        what: how the message begins, e.g. ``video out.mp4``.

    Raises:
        SinkError: it is a folder or a device, its folder is missing, or no file can be made there.
    """
    if path.is_dir():
        raise SinkError(f"{what} is a folder: give a file name in it")
    if path.exists() and not path.is_file():
        # To rename over a device would take it from the whole machine.
        raise SinkError(f"{what} cannot be written, {path} is no regular file: give another name")
    if not path.parent.is_dir():
        raise SinkError(f"{what} cannot be written, there is no folder {path.parent}: make it or choose another")
    part = part_path(path)
    existed = part.exists()
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT, 0o666))
        if not existed:
            part.unlink()
    except OSError as error:
        raise SinkError(f"{what} cannot be written, {reason(error)}: choose another place") from error


def check_folder_writable(folder: Path, what: str) -> None:
    """Find out before a long run whether files can be made in ``folder``, leaving nothing behind.

    Args:
        folder: need not be there; then the nearest of its parents is tried.
        what: how the message begins, e.g. ``masks out``.

    Raises:
        SinkError: it or a parent is a file, or nothing can be made there.
    """
    place = next(there for there in (folder, *folder.absolute().parents) if there.exists())
    if not place.is_dir():
        raise SinkError(f"{what} cannot be written, {place} is a file: choose another folder")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise SinkError(f"{what} cannot be written, {reason(error)}: choose another folder") from error


class PartFile:
    """A file under its part name, for PyAV and for plain bytes.

    It knows up to where its content is whole (``mark``). After the first failed write it is *broken*: further
    writes are swallowed, so that the muxer's own clean-up cannot damage what was kept, and ``keep`` cuts it
    back to the last mark.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_path(path)
        self.broken = False
        # A stale part of an earlier run is replaced. Unbuffered: what is written is safe from our own death.
        self._file = self.part.open("w+b", buffering=0)
        self._whole = 0
        self._synced_s = time.monotonic()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data`` or fail.

        Raises:
            OSError: the first time that it cannot; later calls do nothing.
        """
        view = memoryview(data)
        while len(view) and not self.broken:
            try:
                # Near the end of a disk a write may be short; the next one tells why.
                view = view[self._file.write(view) :]
            except OSError:
                self.broken = True
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """As of a file; PyAV asks for it before it seeks."""
        return self._file.read(size)

    def mark(self) -> None:
        """Say that what is written so far is whole; every ``SYNC_S`` make sure that it is on the disk.

        Raises:
            OSError: the disk does not take it. Only this call finds out about a disk that fails late.
        """
        self._whole = self._file.tell()
        if time.monotonic() - self._synced_s >= SYNC_S:
            self._sync()

    def commit(self) -> None:
        """Close, and give the final name.

        Raises:
            OSError: the last bytes, or the name, cannot be written; the part is still there.
        """
        try:
            self._sync()
        finally:
            self._file.close()
        self.part.replace(self.path)

    def keep(self) -> int:
        """Close after a failure, under the part name, cut back to what is whole.

        Returns:
            Its size in bytes; 0 if nothing of it was whole, and then the file is removed.
        """
        self.broken = True
        if not self._file.closed:
            # A full disk lets a file shrink; where even that fails, a torn end is all the harm.
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
            self._file.close()
        if self._whole == 0:
            self.part.unlink(missing_ok=True)
        return self._whole

    def _sync(self) -> None:
        try:
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._file.fileno())
        except OSError:
            self.broken = True
            raise
        self._synced_s = time.monotonic()
