"""A stream to a file that gets its name once it is complete; a crash or a full disk leaves its beginning."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from pathlib import Path
from typing import Final

from rtseg.system.atomic_files import open_part, part_path, sink_errors
from rtseg.system.output_lock import is_open_file

__all__ = ["SYNC_S", "PartFile"]

SYNC_S: Final = 2.0
"""Longest time, in seconds, that written data may exist only in the memory of the machine, and that a file may have
been renamed or deleted unnoticed."""


class PartFile:
    """A stream to a part file, for PyAV and for plain bytes. No other run can write it until it is closed.

    ``mark`` records how much of the content is complete. After the first failed write the file is *broken*: it
    ignores further writes, so that the clean-up of a muxer cannot damage complete content, and ``keep`` cuts the
    file back to the last mark.

    If its folder is renamed meanwhile, the file goes on in the folder's new place.

    Args:
        path: the final name.
        label: how messages begin, e.g. ``video out.mp4``.
        overwrite: whether an existing file may be replaced.

    Raises:
        SinkError: see ``check_writable``.
    """

    def __init__(self, path: Path, label: str, *, overwrite: bool = True) -> None:
        self.path = path
        self._label = label
        self._overwrite = overwrite
        self.part = part_path(path)
        self.broken = False
        self.notice = ""
        """Where the part file of a run that crashed is kept, and where the file has gone: lines, or empty."""
        # Unbuffered, so that written data survives a crash of this process.
        self._descriptor: int | None = open_part(path, label, overwrite=overwrite)
        if os.fstat(self._fd).st_size:
            with sink_errors(path):
                self._keep_earlier_part()
            self._close()
            self._descriptor = open_part(path, label, overwrite=overwrite)
        self._complete_bytes = 0
        self._synced_s = time.monotonic()

    def _keep_earlier_part(self) -> None:
        names = (self.part.with_stem(f"{self.part.stem}-{number}") for number in itertools.count(1))
        kept = next(name for name in names if not os.path.lexists(name))
        self.part.rename(kept)
        self.notice = f"{self.part} of a run that did not end properly is kept as {kept.name}"

    @property
    def _fd(self) -> int:
        assert self._descriptor is not None, "the file is closed"
        return self._descriptor

    @property
    def size(self) -> int:
        """Its present size in bytes; 0 once it is closed."""
        return 0 if self._descriptor is None else os.fstat(self._descriptor).st_size

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data`` or fail.

        Raises:
            OSError: the first write that fails; later calls do nothing.
        """
        view = memoryview(data)
        while len(view) and not self.broken:
            try:
                # On a nearly full disk a write may be short; the next one raises the reason.
                view = view[os.write(self._fd, view) :]
            except OSError:
                self.broken = True
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Like ``seek`` of a file object."""
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """Like ``tell`` of a file object."""
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def read(self, size: int = -1) -> bytes:
        """Like ``read`` of a file object; PyAV requires it before it seeks."""
        return os.read(self._fd, size if size >= 0 else os.fstat(self._fd).st_size)

    def mark(self) -> None:
        """Record that everything written so far is complete; sync it to the disk every ``SYNC_S``.

        Raises:
            OSError: syncing failed, or the file was deleted. Only this call notices a disk that fails late.
        """
        self._complete_bytes = self.tell()
        if time.monotonic() - self._synced_s >= SYNC_S:
            self._sync()
            self._follow()

    def commit(self) -> None:
        """Rename the file to its final name, and close it.

        Raises:
            OSError: syncing or renaming failed; the part file still exists and is open: ``keep`` closes it.
        """
        self._complete_bytes = max(self._complete_bytes, os.fstat(self._fd).st_size)
        self._sync()
        self._follow()
        if self._overwrite:
            self.part.replace(self.path)
        else:
            _rename_to_new(self.part, self.path)
        self._close()

    def keep(self) -> int:
        """Close the file after a failure, under its part name, cut back to the last mark.

        Returns:
            Its size in bytes; 0 if nothing was complete, and then the file is removed.
        """
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._follow()
        self.broken = True
        if self._descriptor is not None:
            # A full disk still allows truncation; if even that fails, the file only has an incomplete end.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._complete_bytes)
            if self._complete_bytes == 0 and is_open_file(self._descriptor, self.part):
                self.part.unlink(missing_ok=True)
            if os.fstat(self._descriptor).st_nlink == 0:  # another program has deleted it
                self._complete_bytes = 0
            self._close()
        return self._complete_bytes

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        """Remove the file of a run that never began."""
        if getattr(self, "_descriptor", None) is not None:
            with contextlib.suppress(OSError):
                self.keep()

    def _follow(self) -> None:
        """Find out where the file is now, in case that it or its folder was renamed or deleted."""
        if is_open_file(self._fd, self.part):
            return
        self.broken = True
        if os.fstat(self._fd).st_nlink == 0:
            what = "replaced" if os.path.lexists(self.part) else "deleted"
            raise FileNotFoundError(errno.ENOENT, f"another program has {what} {self.part.name}")
        try:
            now = Path(f"/proc/self/fd/{self._fd}").readlink()
        except OSError as error:
            raise OSError(errno.ESTALE, f"another program has renamed {self.part} or its folder") from error
        if now.name != self.part.name:
            self.part = now
            raise OSError(errno.ESTALE, f"another program has renamed it to {now.name}")
        self.part, self.path, self.broken = now, now.with_name(self.path.name), False
        moved = f"{self._label}: its folder was renamed, it is now written to {self.path}"
        self.notice = "\n".join(filter(None, (self.notice, moved)))

    def _sync(self) -> None:
        try:
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError:
            self.broken = True
            raise
        self._synced_s = time.monotonic()


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``.

    Raises:
        FileExistsError: another program has created ``path`` meanwhile.
    """
    try:
        path.hardlink_to(part)  # unlike renaming, this never replaces a file
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, f"another program has created {path.name}") from error
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, f"another program has created {path.name}") from None
        part.rename(path)
    else:
        part.unlink()
