"""The kernels that TensorRT-RTX compiled for an engine, saved for the next run.

TensorRT-RTX compiles the kernels of an engine for the GPU of the machine, each time it is opened unless it is given the
kernels that it compiled before. They are saved in a file beside the engine, so that they are moved and deleted with it.
The file begins with a digest of its content and its owner. A file that is damaged, or that belongs to another engine,
TensorRT-RTX, GPU or driver, is ignored.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtseg.backends.tensorrt.engine_file import runtime_cache_path
from rtseg.system.atomic_files import atomic_path
from rtseg.system.read_file import read_bytes

__all__ = ["RuntimeCacheFile"]

_MAX_BYTES = 1 << 30
_DIGEST_BYTES = hashlib.sha256().digest_size


class RuntimeCacheFile:
    """The file beside an engine. It only saves time: a failure to read or write it is noted and not raised.

    Args:
        engine: file of the engine.
        owner: identifies the engine, the runtime, the GPU and the driver.
    """

    def __init__(self, engine: Path, owner: str) -> None:
        self._path = runtime_cache_path(engine)
        self._owner = owner.encode()
        self._saved_bytes = 0
        self.note = "not saved"
        """The state of the file, for a report: ``read``, ``written``, or why not."""

    def read(self) -> bytes | None:
        """Return what was written for this owner; None if there is nothing."""
        try:
            stored = read_bytes(self._path, _MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.note = f"{self._path} cannot be read ({error.strerror})"
            return None
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if digest != self._digest(content):
            return None
        self._saved_bytes, self.note = len(content), "read"
        return content

    def discard(self) -> None:
        """Treat the file as missing, because the runtime rejects its content."""
        self._saved_bytes, self.note = 0, "not saved"

    def write(self, content: bytes) -> None:
        """Save ``content`` if it is longer than what is saved already."""
        if len(content) <= self._saved_bytes:
            return
        try:
            with atomic_path(self._path) as part:
                part.write_bytes(self._digest(content) + content)
        except OSError as error:
            self.note = f"{self._path} cannot be written ({error.strerror})"
            return
        self._saved_bytes, self.note = len(content), "written"

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self._owner + b"\n" + content).digest()
