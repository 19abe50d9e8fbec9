"""What TensorRT-RTX compiled of an engine, kept from one run to the next.

TensorRT-RTX compiles the kernels of an engine for the GPU that it finds, at every opening anew unless it is given what
it compiled before. That lies beside the engine, so that it is moved and removed with it, and behind a digest of itself
and of all that it is good for: what is damaged, or of another engine, TensorRT-RTX or GPU, counts as not there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtseg.backends.tensorrt.engine_file import runtime_cache_path
from rtseg.system.atomic_files import atomic_path

__all__ = ["RuntimeCacheFile"]

_DIGEST_BYTES = hashlib.sha256().digest_size


class RuntimeCacheFile:
    """The file beside an engine. It only saves time: one that cannot be read or written stops nobody, and is told.

    Args:
        engine: the engine's file.
        owner: all that the content is good for, in words: engine, runtime, GPU.
    """

    def __init__(self, engine: Path, owner: str) -> None:
        self._path = runtime_cache_path(engine)
        self._owner = owner.encode()
        self._kept = 0
        self.note = "nothing kept"
        """What became of it, for a report: ``read``, ``written``, or why not."""

    def read(self) -> bytes | None:
        """What was written for this owner; None where there is nothing of use."""
        try:
            stored = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.note = f"{self._path} cannot be read ({error.strerror})"
            return None
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if digest != self._digest(content):
            return None
        self._kept, self.note = len(content), "read"
        return content

    def refuse(self) -> None:
        """Count what was read as not there: the runtime does not take it."""
        self._kept, self.note = 0, "nothing kept"

    def write(self, content: bytes) -> None:
        """Keep ``content`` where it is more than what is kept already. Nobody ever reads half of it."""
        if len(content) <= self._kept:
            return
        try:
            with atomic_path(self._path, unique=True) as part:  # several processes may open one engine
                part.write_bytes(self._digest(content) + content)
        except OSError as error:
            self.note = f"{self._path} cannot be written ({error.strerror})"
            return
        self._kept, self.note = len(content), "written"

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self._owner + b"\n" + content).digest()
