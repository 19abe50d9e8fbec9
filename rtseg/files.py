"""Writing small files so that no one ever reads half of one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rtseg.errors import SinkError

__all__ = ["write_bytes", "write_text"]


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
