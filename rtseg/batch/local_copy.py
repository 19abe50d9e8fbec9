"""Copies of remote videos for the libraries that read local files only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

from rtseg.batch.remote_files import copy_to
from rtseg.system.remote import is_url

__all__ = ["LocalCopy"]


class LocalCopy:
    """Keeps a copy of the last remote file. The copy has no name, so it ends with the process, whatever ends that.

    Needs ``/proc``, as on Linux.
    """

    def __init__(self) -> None:
        self._url = ""
        self._file: IO[bytes] | None = None

    def get(self, path: str) -> Path:
        """A local path for ``path``, valid until the next call.

        Raises:
            SourceError: it cannot be read.
            OSError: there is no room for the copy.
        """
        if not is_url(path):
            return Path(path)
        if self._file is None or self._url != path:
            self.close()
            file = tempfile.TemporaryFile()  # noqa: SIM115 - kept open
            copy_to(path, file)
            file.flush()
            self._url, self._file = path, file
        return Path(f"/proc/self/fd/{self._file.fileno()}")

    def close(self) -> None:
        """Remove the copy."""
        if self._file is not None:
            self._file.close()
        self._file = None
