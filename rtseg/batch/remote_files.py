"""Files that are not on a local disk: found, described and copied through fsspec."""

from __future__ import annotations

from dataclasses import dataclass
from glob import has_magic
from typing import IO, Any

from rtseg.errors import SourceError, SourceNotFound
from rtseg.system.redact import redact
from rtseg.system.remote import VERSION_KEYS, open_url, remote_reason

__all__ = ["RemoteFacts", "copy_to", "describe", "find_urls", "open_system"]

_WEB = ("http://", "https://")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """What a file system says about a file."""

    bytes: int
    version: str
    """Changes with the content: the tag of an object, else the time of its last change; empty if unknown."""


def open_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of ``url``, which asks the server each time, and the path in it.

    Raises:
        RtsegError: see ``open_url``.
    """
    system, path = open_url(url, use_listings_cache=False)
    return system, path.rstrip("/")


def find_urls(url: str) -> list[str]:
    """The URLs of the files that ``url``, a file or a glob, names.

    Raises:
        SourceNotFound: there is none.
        SourceError: the server or bucket cannot be read.
    """
    system, path = open_system(url)
    try:
        if has_magic(path) and not url.lower().startswith(_WEB):
            found = [str(system.unstrip_protocol(each)) for each in system.glob(path)]
        else:
            found = [url] if system.exists(path) else []
    except Exception as error:  # every file system raises its own errors
        raise _unreadable(url, error) from error
    if not found:
        raise SourceNotFound(f"{redact(url)} names no file: check the address")
    return found


def describe(url: str) -> RemoteFacts:
    """What the file system says about a file.

    Raises:
        SourceError: it cannot be read.
    """
    system, path = open_system(url)
    try:
        info = system.info(path)
    except Exception as error:
        raise _unreadable(url, error) from error
    version = next((str(info[name]) for name in VERSION_KEYS if info.get(name)), "")
    return RemoteFacts(int(info.get("size") or 0), version)


def copy_to(url: str, file: IO[bytes]) -> None:
    """Copy the content of ``url``.

    Raises:
        SourceError: it cannot be read.
        OSError: ``file`` cannot be written.
    """
    system, path = open_system(url)
    try:
        source = system.open(path, "rb")
    except Exception as error:
        raise _unreadable(url, error) from error
    with source:
        while block := _read(source, url):
            file.write(block)


def _read(source: Any, url: str) -> bytes:
    try:
        return bytes(source.read(_BLOCK))
    except Exception as error:
        raise _unreadable(url, error) from error


def _unreadable(url: str, error: Exception) -> SourceError:
    reason = remote_reason(error)
    return SourceError(f"{redact(url)} cannot be read: {reason}; check the address, the network and the access rights")
