"""Files that are not on a local disk, through fsspec: which names mean one, and how its file system is opened."""

from __future__ import annotations

import re
from typing import Any

from rtseg.errors import MissingExtra, OptionError, SourceNotFound
from rtseg.system.redact import redact

__all__ = ["VERSION_KEYS", "is_url", "open_url", "remote_reason"]

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
VERSION_KEYS = (
    "ETag",
    "etag",
    "Content-MD5",
    "md5Hash",
    "CRC",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "mtime",
)
"""How the file systems of fsspec name the version of a file."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Extra of rtseg that brings the package for a scheme."""
_MAX_REASON = 200


def is_url(where: str) -> bool:
    """Whether ``where`` names something that is not on a local disk."""
    return _URL.match(where) is not None


def open_url(url: str, **options: Any) -> tuple[Any, str]:
    """Return the fsspec file system of ``url``, and the path in it.

    Args:
        url: of a file, a folder or a glob.
        options: of the file system.

    Raises:
        MissingExtra: a package that it needs is not installed.
        OptionError: its scheme is unknown.
        SourceNotFound: it leads through a file that cannot be opened, e.g. an archive.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtra.for_feature(redact(url), "fsspec", "remote") from error
    try:
        system, path = url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(url.partition("://")[0].lower(), "remote")
        raise MissingExtra(f"{redact(url)} needs another package ({error}): pip install 'rtseg[{extra}]'") from error
    except ValueError as error:
        raise OptionError(f"{redact(url)} cannot be used: {redact(error)}") from error
    except OSError as error:
        raise SourceNotFound(f"{redact(url)} cannot be opened ({redact(error.strerror or error)})") from error
    return system, str(path)


def remote_reason(error: BaseException) -> str:
    """Why a file system failed, on one line and without secrets."""
    return " ".join(redact(str(error) or type(error).__name__).split())[:_MAX_REASON]
