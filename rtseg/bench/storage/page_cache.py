"""Files out of the kernel's memory, and into it, and how much of them is there.

Linux only, as the whole of ``rtseg bench``: ``posix_fadvise(DONTNEED)`` lets go of clean pages, ``mincore`` counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rtseg.errors import SourceError

__all__ = ["drop", "load", "share_in_memory"]

_TRIES = 3
"""Pages that another processor has just touched stay at the first."""
_CHUNK = 2**24


def drop(paths: Iterable[Path]) -> float:
    """Take files out of the page cache; returns the share of their pages that stayed, 0 to 1.

    A file is written to the disk first: dirty pages stay. What another process maps stays, and so does all on tmpfs.

    Raises:
        SourceError: a file cannot be opened.
    """
    found = list(paths)
    stayed = 1.0
    for _ in range(_TRIES):
        for path in found:
            fd = _open(path)
            try:
                with contextlib.suppress(OSError):  # what is mounted to be read alone may know no fsync, and needs none
                    os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
        stayed = share_in_memory(found)
        if stayed == 0.0:
            break
    return stayed


def load(paths: Iterable[Path]) -> float:
    """Read files into the page cache; returns the share of their pages that are there then, 0 to 1.

    Raises:
        SourceError: a file cannot be read.
    """
    found = list(paths)
    for path in found:
        fd = _open(path)
        try:
            while os.read(fd, _CHUNK):
                pass
        except OSError as error:
            raise SourceError(f"{path} cannot be read ({error.strerror}): take it out") from error
        finally:
            os.close(fd)
    return share_in_memory(found)


def share_in_memory(paths: Iterable[Path]) -> float:
    """Share of the files' pages that lie in the page cache, 0 to 1; 0 of no pages.

    Of files that are neither the caller's nor writable for him the kernel says that all of them do.

    Raises:
        SourceError: a file cannot be opened.
        OSError: the kernel cannot tell.
    """
    there = pages = 0
    for path in paths:
        fd = _open(path)
        try:
            size = os.fstat(fd).st_size
            if size:
                found = _resident(fd, size)
                there += int(np.count_nonzero(found & 1))
                pages += len(found)
        finally:
            os.close(fd)
    return there / pages if pages else 0.0


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}): take it out") from error


def _resident(fd: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Of each page of a file a byte whose lowest bit says whether it is there. Source: mincore(2)."""
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        arguments = (ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data))
        failed = libc.mincore(*arguments)
        del content  # else the mapping cannot be closed
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pages
