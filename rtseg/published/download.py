"""Downloads published weights and data into a cache folder: continues what was interrupted, and checks the hash."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rtseg.errors import ModelError, SinkError
from rtseg.model_file.spec import file_sha256
from rtseg.system.atomic_files import locked_output, sink_errors, write_bytes
from rtseg.system.read_file import read_text
from rtseg.system.redact import redact

__all__ = ["Published", "cache_folder", "download", "is_cached"]

_TIMEOUT_S = 20.0
"""Of each step of the connection."""
_TRIES = 5
"""In a row that bring no byte."""
_CHUNK = 1 << 18
_NOT_SATISFIABLE, _PARTIAL = 416, 206


class Published(Protocol):
    """A file that somebody publishes."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def command(self) -> str:
        """The command that downloads it."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def file_name(self) -> str:
        """Its name in the cache folder."""

    @property
    def sha256(self) -> str:
        """64 hex digits, or the first ones, or empty where none is published."""

    @property
    def licence(self) -> str:
        """What it may be used for."""


def cache_folder() -> Path:
    """Return the folder for downloaded files: ``RTSEG_CACHE``, or ``rtseg`` in the user's cache folder."""
    own = os.environ.get("RTSEG_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rtseg"


def is_cached(model: Published) -> bool:
    """Return whether the file is in the cache folder."""
    return (cache_folder() / model.file_name).is_file()


def download(
    model: Published,
    *,
    offline: bool = False,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Return the file of ``model`` in the cache folder, and download it if it is not there.

    A download that breaks off is continued, now or by the next call. The hash is checked each time; where only a part
    of it or none is published, the whole hash is recorded at the first download and checked from then on.

    Args:
        model: what to download.
        offline: use the network for nothing.
        notify: called with the licence before the first download, and with what is odd about the hash.
        on_progress: called with the bytes done and the total, if it is known.

    Raises:
        ModelError: the file cannot be downloaded, or has another hash; then it is removed.
        SinkError: the cache folder cannot be written.
    """
    path = cache_folder() / model.file_name
    if not path.is_file() and offline:
        raise ModelError(
            f"{model.name} is not in {path.parent}, and --offline forbids a download: run "
            f"`{model.command}` with a network, or copy {redact(model.url)} to {path}"
        )
    with sink_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        notify(f"{model.name}: licence: {model.licence}")
        with locked_output(path, f"cached file {path}"):
            if not path.is_file():  # another run may have downloaded it
                _download(model, path, on_progress)
    _check_hash(model, path, notify)
    return path


def _download(model: Published, path: Path, on_progress: Callable[[int, int | None], None]) -> None:
    partial = path.with_name(f"{path.name}.download")
    without_progress = 0
    while True:
        before = partial.stat().st_size if partial.is_file() else 0
        try:
            if _continue(model.url, partial, before, on_progress):
                break
            reason = "the connection broke off"
        except HTTPError as error:
            if error.code != _NOT_SATISFIABLE or not before:
                raise _failed(model, path, f"HTTP {error.code}") from error
            partial.unlink()  # not a part of this file
            continue
        except (HTTPException, OSError) as error:
            if isinstance(error, SinkError):
                raise
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        after = partial.stat().st_size if partial.is_file() else 0
        without_progress = 0 if after > before else without_progress + 1
        if without_progress >= _TRIES or (not after and without_progress):
            raise _failed(model, path, reason)
    with sink_errors(path):
        partial.replace(path)


def _continue(url: str, partial: Path, start: int, on_progress: Callable[[int, int | None], None]) -> bool:
    """Download from byte ``start`` on; return whether the file is complete."""
    request = Request(url, headers={"User-Agent": "rtseg"} | ({"Range": f"bytes={start}-"} if start else {}))
    with urlopen(request, timeout=_TIMEOUT_S) as answer:
        start = start if answer.status == _PARTIAL and _starts_at(answer, start) else 0
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        done = start
        with _opened(partial, "ab" if start else "wb") as file:
            while chunk := answer.read(_CHUNK):
                with sink_errors(partial):
                    file.write(chunk)
                done += len(chunk)
                on_progress(done, total)
    return total is None or done >= total


def _opened(path: Path, mode: str) -> Any:
    with sink_errors(path):
        return path.open(mode)


def _starts_at(answer: Any, start: int) -> bool:
    return re.match(rf"bytes {start}-", answer.headers.get("Content-Range", "")) is not None


def _check_hash(model: Published, path: Path, notify: Callable[[str], None]) -> None:
    actual = file_sha256(path)
    record = path.with_name(f"{path.name}.sha256")
    try:
        recorded = read_text(record).split()[0] if record.is_file() else ""
    except (OSError, ValueError, IndexError):
        recorded = ""
    accept = f"; if its publisher changed it, remove {record} first"
    for expected, where, advice in ((model.sha256, "published", ""), (recorded, f"recorded in {record}", accept)):
        if not actual.startswith(expected):
            path.unlink()
            raise ModelError(
                f"{path} was removed: its SHA-256 {actual} is not the one {where}, {expected}: "
                f"download it again{advice}"
            )
    if not recorded:
        write_bytes(record, f"{actual}  {path.name}\n".encode())
        if len(model.sha256) != len(actual):
            known = f"only {model.sha256} of its SHA-256 is" if model.sha256 else "no SHA-256 is"
            notify(f"{model.name}: {known} published; {actual} was recorded and will be checked from now on")


def _failed(model: Published, path: Path, reason: str) -> ModelError:
    return ModelError(
        f"cannot download {redact(model.url)} ({' '.join(reason.split())}): try again later, it continues where it "
        f"stopped, or copy the file to {path}"
    )
