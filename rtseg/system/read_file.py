"""Reads whole files that the user or another file names. A pipe or a device could block or never end."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["MAX_IMAGE_BYTES", "read_bytes", "read_image_bytes", "read_lines", "read_text"]

_MAX_TEXT_BYTES: Final = 1 << 28
"""For lists, JSON and TOML: 256 MiB."""
MAX_IMAGE_BYTES: Final = 1 << 31
"""For one image: 2 GiB."""


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: the file is missing, larger than ``max_bytes``, a folder, pipe or device, or cannot be read.
    """
    try:
        # O_NONBLOCK, because opening a pipe without a writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a NUL, or a character that no file name has
        raise OSError(errno.EINVAL, "not the name of a file", str(path)) from error
    with open(descriptor, "rb") as file:  # noqa: PTH123
        _check(path, os.fstat(file.fileno()), max_bytes)
        data = file.read(max_bytes + 1)  # of /proc and some mounts, files are longer than they say
    if len(data) > max_bytes:
        raise _too_large(path, max_bytes)
    return data


def read_image_bytes(path: Path) -> bytes:
    """Return the content of an image file; see ``read_bytes``."""
    return read_bytes(path, MAX_IMAGE_BYTES)


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Return the content of a text file, without a byte-order mark; all line ends become ``\\n``.

    It is UTF-8, or, where its byte-order mark says so, UTF-16.

    Raises:
        OSError: see ``read_bytes``.
        UnicodeDecodeError: the content is not UTF-8 (or UTF-16).
    """
    data = read_bytes(path, _MAX_TEXT_BYTES)
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16") if is_utf16 else data.decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list of file names, without blanks around them.

    Bytes that are not UTF-8 are decoded as in file names. Only line ends separate lines: a name may contain the other
    characters at which ``str.splitlines`` splits.

    Raises:
        OSError: see ``read_bytes``.
        UnicodeDecodeError: the file contains a zero byte, so it is no text.
    """
    text = read_text(path, errors="surrogateescape")
    if (zero := text.find("\0")) >= 0:
        raise UnicodeDecodeError("utf-8", b"\0", 0, 1, f"character {zero} is a zero byte")
    return [line.strip(" \t") for line in text.split("\n")]


def _check(path: Path, facts: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if facts.st_size > max_bytes:
        raise _too_large(path, max_bytes)


def _too_large(path: Path, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {max_bytes / 1e6:.0f} MB", str(path))
