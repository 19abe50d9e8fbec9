"""What the sinks that write one file frame by frame have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import failure_reason
from rtseg.system.part_file import PartFile

__all__ = ["FileSink", "frame_name"]


class FileSink(Sink):
    """Writes what ``encode`` returns for each frame, at once, and gives the file its name at ``close``.

    Args:
        path: the file to write.
        label: how messages begin; its first word is the option without dashes, e.g. ``masks out.json``.
        unit: what is written for a frame, for messages, e.g. ``lines``.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputExists: there is such a file, and it must not be replaced.
        SinkError: it cannot be written, or another run is writing it.
    """

    needs_rendered = False
    end_is_fixed = False
    """Whether ``end`` always returns the same. Then it is also written after each frame, for the next one to replace:
    the file is complete at any time."""

    def __init__(self, path: Path, label: str, *, unit: str, overwrite: bool) -> None:
        self.path = path
        self.name = label
        self._unit = unit
        self._failure: str | None = None
        self._closed = False
        self._file = PartFile(path, label, overwrite=overwrite)

    @abstractmethod
    def begin(self) -> bytes:
        """What comes before the first frame."""

    @abstractmethod
    def encode(self, frame: Frame, labels: Labels) -> bytes:
        """What is written for one frame."""

    def end(self) -> bytes:
        """What comes after the last frame."""
        return b""

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return self._file.notice

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write one frame; see ``Sink``."""
        if self._failure is not None:
            raise SinkError(self._failure)
        data = self.encode(frame, labels)
        if not self.written:
            data = self.begin() + data
        end = self.end() if self.end_is_fixed else b""
        try:
            self._file.write(data + end)
            self._file.mark()
            if end:
                self._file.seek(-len(end), 1)
        except OSError as error:
            raise self._fail(error) from error
        self.written += 1

    def close(self) -> None:
        """Give the file its final name; see ``Sink``."""
        if self._closed:
            return
        self._closed = True
        if self._failure is not None:
            return
        if not self.written:
            self._file.keep()
            return
        try:
            self._file.write(self.end())
            self._file.commit()
        except OSError as error:
            raise self._fail(error) from error

    def keep_part(self) -> Path | None:
        """Close the file under its part name, and return that; None if there is nothing in it."""
        self._closed = True
        return self._file.part if self._file.keep() else None

    def _fail(self, error: OSError) -> SinkError:
        kept = f"no {self._unit[:-1]} is kept"
        if self._file.keep():
            kept = f"{self.written} {self._unit} are kept in {self._file.part}"
            if self.end_is_fixed:
                self._restore_end()
        self._failure = f"{self.name} ended, {failure_reason(error)}; {kept}. Free some space or choose another path"
        return SinkError(self._failure)

    def _restore_end(self) -> None:
        """Write the end again where the frame that failed has replaced it. This needs no room on the disk."""
        end = self.end()
        with self._file.part.open("r+b") as file:
            file.seek(-len(end), 2)
            file.write(end)


def frame_name(frame: Frame) -> str:
    """The name of an image, or, of a video frame, that of its mask: its index, e.g. ``000123.png``."""
    return frame.name if frame.name is not None else f"{frame.index:06d}.png"
