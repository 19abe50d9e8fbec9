"""Locks that keep two runs from writing the same output. They end with the process, whatever ends it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rtseg.errors import SinkError

__all__ = ["OutputInUse", "check_name", "is_open_file", "is_open_folder", "locked_folder", "open_locked"]

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Never truncates, follows no symbolic link, and does not wait for the reader of a FIFO."""
_ATTEMPTS: Final = 10
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OutputInUse(SinkError):
    """Another run is writing this output."""


def check_name(path: Path, label: str) -> None:
    """Check that ``path`` can be shown on one line.

    Raises:
        SinkError: it contains a line break or another control character.
    """
    if _CONTROL.search(str(path)):
        raise SinkError(f"{label!r} contains a line break or a control character: choose another name")


def open_locked(part: Path, option: str) -> int:
    """Open ``part`` for reading and writing, and lock it until the descriptor is closed. Its content is not changed.

    Without locks, as on some network file systems, the file is opened all the same.

    Args:
        part: the file; created if it does not exist.
        option: that messages tell the user to change, e.g. ``--output``.

    Raises:
        OutputInUse: another run is writing it.
        SinkError: it is a symbolic link, a FIFO or a device.
        OSError: it cannot be created.
    """
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(part, _FLAGS, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise SinkError(f"{part} is a symbolic link: remove it, or choose another {option}") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SinkError(f"{part} is not a regular file: remove it, or choose another {option}")
            _lock(descriptor, part, option)
        except BaseException:
            os.close(descriptor)
            raise
        if is_open_file(descriptor, part):
            return descriptor
        os.close(descriptor)  # the run that held the lock has just given the file its final name
    raise _held(part, option)


def is_open_file(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the name of the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def is_open_folder(descriptor: int, folder: Path) -> bool:
    """Whether ``folder`` is still the name of the open folder, or of a link to it."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


@contextmanager
def locked_folder(folder: Path, option: str = "--output") -> Iterator[int]:
    """Hold ``folder`` for this run alone. Create it; if it is still empty at the end, remove it again.

    Yields its descriptor.

    Raises:
        OutputInUse: another run is writing into it.
        SinkError: it cannot be created.
    """
    check_name(folder, str(folder))
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SinkError(f"cannot write into {folder}: {error.strerror}; choose another {option}") from error
    try:
        _lock(descriptor, folder, option)
        try:
            yield descriptor
        finally:
            with suppress(OSError):  # not empty
                for each in missing:
                    each.rmdir()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, option: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held(path, option) from error
    except OSError:  # this file system has no locks
        return


def _held(path: Path, option: str) -> OutputInUse:
    return OutputInUse(f"{path} is being written by another run: choose another {option}")
