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
    """Writes what ``encode`` returns for each frame, and gives the file its name at ``close``.

    The part file is complete at any time: ``end`` is written each time, for the next frames to replace. As long as
    ``end`` is longer than the frames that wait, they wait, so that it costs no more than they do.

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

    def __init__(self, path: Path, label: str, *, unit: str, overwrite: bool) -> None:
        self.path = path
        self.name = label
        self._unit = unit
        self._failure: str | None = None
        self._closed = False
        self._waiting: list[bytes] = []
        self._kept = 0
        """Frames in the part file."""
        self._last_end = b""
        """The end that is in the part file."""
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
    def end_bytes(self) -> int:
        """Length of ``end``."""
        return 0

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return self._file.notice

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write one frame; see ``Sink``."""
        if self._failure is not None:
            raise SinkError(self._failure)
        data = self.encode(frame, labels)
        self._waiting += [data] if self.written else [self.begin(), data]
        if not self._kept or sum(map(len, self._waiting)) >= self.end_bytes:
            try:
                self._write_waiting()
            except OSError as error:
                raise self._fail(error) from error
            self._kept = self.written + 1
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
            self._write_waiting()
            self._kept = self.written
            self._file.commit()
        except OSError as error:
            raise self._fail(error) from error

    def _write_waiting(self) -> None:
        end = self.end()
        if self._last_end:
            self._file.seek(-len(self._last_end), 1)
        self._file.write(b"".join((*self._waiting, end)))
        self._file.mark()
        self._waiting, self._last_end = [], end

    def keep_part(self) -> Path | None:
        """Close the file under its part name, and return that; None if there is nothing in it."""
        self._closed = True
        return self._file.part if self._file.keep() else None

    def _fail(self, error: OSError) -> SinkError:
        kept = f"no {self._unit[:-1]} is kept"
        if self._file.keep():
            kept = f"{self._kept} {self._unit} are kept in {self._file.part}"
            self._restore_end()
        self._failure = f"{self.name} ended, {failure_reason(error)}; {kept}. Free some space or choose another path"
        return SinkError(self._failure)

    def _restore_end(self) -> None:
        """Write the end again where the frames that failed have replaced it. This needs no room on the disk."""
        with self._file.part.open("r+b") as file:
            file.seek(-len(self._last_end), 2)
            file.write(self._last_end)


def frame_name(frame: Frame) -> str:
    """The name of an image, or, of a video frame, that of its mask: its index, e.g. ``000123.png``."""
    return frame.name if frame.name is not None else f"{frame.index:06d}.png"
