"""Drop files from the page cache, load them into it, and measure how much of them is in it.

Linux only, like all of ``rtseg bench``: ``posix_fadvise(DONTNEED)`` drops clean pages, ``mincore`` counts them.
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
"""The first try keeps pages that another processor has just used."""
_CHUNK = 2**24


def drop(paths: Iterable[Path]) -> float:
    """Drop files from the page cache; return the share of their pages that stayed, 0 to 1.

    The files are written to disk first, because dirty pages stay. Pages that another process maps stay, as
    do all on tmpfs.

    Raises:
        SourceError: a file cannot be opened.
    """
    files = list(paths)
    stayed = 1.0
    for _ in range(_TRIES):
        for path in files:
            fd = _open(path)
            try:
                with contextlib.suppress(OSError):  # a read-only mount may have no fsync, and needs none
                    os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
        stayed = share_in_memory(files)
        if stayed == 0.0:
            break
    return stayed


def load(paths: Iterable[Path]) -> float:
    """Read files into the page cache; return the share of their pages that are in it afterwards, 0 to 1.

    Raises:
        SourceError: a file cannot be read.
    """
    files = list(paths)
    for path in files:
        fd = _open(path)
        try:
            while os.read(fd, _CHUNK):
                pass
        except OSError as error:
            raise SourceError(f"{path} cannot be read ({error.strerror}): remove it") from error
        finally:
            os.close(fd)
    return share_in_memory(files)


def share_in_memory(paths: Iterable[Path]) -> float:
    """Return the share of the files' pages that are in the page cache, 0 to 1; 0 if there are no pages.

    For files that the user neither owns nor may write, the kernel always reports that all pages are in memory.

    Raises:
        SourceError: a file cannot be opened.
        OSError: the kernel cannot say.
    """
    cached = total = 0
    for path in paths:
        fd = _open(path)
        try:
            size = os.fstat(fd).st_size
            if size:
                pages = _page_flags(fd, size)
                cached += int(np.count_nonzero(pages & 1))
                total += len(pages)
        finally:
            os.close(fd)
    return cached / total if total else 0.0


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}): remove it") from error


def _page_flags(fd: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return one byte per page of a file; its lowest bit says whether the page is in memory. Source: mincore(2)."""
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        arguments = (ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data))
        failed = libc.mincore(*arguments)
        del content  # otherwise the mapping cannot be closed
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pages
