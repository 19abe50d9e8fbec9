"""Remembers the files of a recording that consists of several, and deletes the oldest of them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from rtseg.system.atomic_files import part_path
from rtseg.system.output_lock import open_locked

__all__ = ["Segment", "SegmentIndex"]


@dataclass(slots=True)
class Segment:
    """One file of a recording, as a line of the index."""

    file: str
    """Its name, without the folder."""
    begins: str
    """Local time of its first frame, ISO 8601."""
    pts_s: float
    """The same on the clock of the source, in seconds."""
    seconds: float = 0.0
    """Its length."""
    frames: int = 0
    bytes: int = 0
    """Its size; 0 until it is complete."""
    mtime_ns: int = 0
    """When it was last changed."""
    deleted: bool = False


class SegmentIndex:
    """The file ``NAME.segments.jsonl``: a line for each file when it begins, ends and is deleted; the last one counts.

    Only files that are in it, as they were when they were complete, are ever deleted. No other run can use the index
    until it is closed.

    Args:
        path: of the index; its folder is that of the recording.

    Raises:
        SinkError: another run is using it, or it is no regular file.
        OSError: it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._descriptor = open_locked(path, "--output")
        self.notice = ""
        """Which files were not deleted, and why: one line, or empty."""
        self.deleted = 0
        """Files deleted by this run."""
        found = _read(self._descriptor)
        self._segments = {segment.file: segment for segment in found if not segment.deleted}
        if len(self._segments) < len(found):  # forget those that were deleted
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            for segment in self._segments.values():
                self._append(segment)
        for segment in self._segments.values():
            if not segment.bytes:
                self._adopt(segment)

    def _adopt(self, segment: Segment) -> None:
        """Take over the part file of a run that crashed."""
        with contextlib.suppress(OSError):
            self._complete(segment, part_path(self._folder / segment.file))

    def begin(self, segment: Segment) -> None:
        """Add a file before its first byte is written."""
        self._segments[segment.file] = segment
        self._append(segment)

    def end(self, segment: Segment) -> None:
        """Note the size of a complete file."""
        with contextlib.suppress(OSError):  # it has been deleted or renamed meanwhile: then it is not ours any more
            self._complete(segment, self._folder / segment.file)

    def _complete(self, segment: Segment, path: Path) -> None:
        facts = path.lstat()
        segment.bytes, segment.mtime_ns = facts.st_size, facts.st_mtime_ns
        self._append(segment)

    def delete_oldest(self, keep_bytes: int, current_bytes: int) -> None:
        """Delete complete files, the oldest first, until all, with the current one, take at most ``keep_bytes``.

        The newest file stays, whatever it takes.
        """
        kept = [segment for segment in self._segments.values() if segment.bytes]
        total = current_bytes + sum(segment.bytes for segment in kept)
        for segment in kept if current_bytes else kept[:-1]:
            if total <= keep_bytes:
                return
            self._delete(segment)
            total -= segment.bytes

    def _delete(self, segment: Segment) -> None:
        del self._segments[segment.file]
        segment.deleted = True
        for path in (self._folder / segment.file, part_path(self._folder / segment.file)):
            try:
                facts = path.lstat()
                if not stat.S_ISREG(facts.st_mode):
                    continue
                if (facts.st_size, facts.st_mtime_ns) != (segment.bytes, segment.mtime_ns):
                    self.notice = f"{path} was changed by another program and is not deleted"
                    continue
                path.unlink()
                self.deleted += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                self.notice = f"{path} cannot be deleted ({error.strerror}): the recording takes more than --keep"
        self._append(segment)

    def _append(self, segment: Segment) -> None:
        # A full disk ends the recording itself. A file that is not in the index is never deleted.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, (json.dumps(asdict(segment)) + "\n").encode())

    def close(self) -> None:
        """Let other runs use the index."""
        os.close(self._descriptor)


def _read(descriptor: int) -> list[Segment]:
    """The segments of an index, in the order in which they began; lines that are not such are left out."""
    found: dict[str, Segment] = {}
    with os.fdopen(os.dup(descriptor), "rb") as file:
        lines = file.read().decode(errors="replace").splitlines()
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            segment = Segment(**json.loads(line))
            if Path(str(segment.file)).name == segment.file and isinstance(segment.bytes, int):
                found[segment.file] = segment
    if lines and not lines[-1].endswith("}"):
        os.write(descriptor, b"\n")  # the last line was cut off by a crash
    return list(found.values())
