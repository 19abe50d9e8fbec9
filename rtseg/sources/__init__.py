"""Where frames come from: files, URLs, cameras, folders of pictures, and a street that rtseg draws itself.

A source is iterated once, by one thread: that thread opens it, reads it and closes it. Closing a video
from another thread crashes the process, so ``stop`` only asks, and the reading thread acts on it.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import ClassVar

from rtseg.errors import OptionError
from rtseg.frame import Frame

__all__ = ["Source", "SourceOptions", "open_source"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Which frames of a source are wanted, and how long to wait for it.

    Raises:
        OptionError: a number is out of range.
    """

    start_s: float = 0.0
    """Frames shown before this time, in seconds, are skipped."""
    duration_s: float | None = None
    """Length of the part to read, in seconds; None reads to the end."""
    stride: int = 1
    """Every stride-th frame is delivered."""
    max_frames: int | None = None
    """Deliver at most so many frames; None sets no bound."""
    loop: bool = False
    """Begin again at the end. Times go on rising."""
    open_timeout_s: float = 4.0
    """Longest wait, in seconds, for a source to open."""
    read_timeout_s: float = 4.0
    """Longest wait, in seconds, for the next frame."""
    allow_playlists: bool = False
    """Let playlists (.m3u8, .mpd) name further files and hosts to be read."""

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--start", self.start_s, 0.0),
            ("--stride", self.stride, 1),
            ("open_timeout_s", self.open_timeout_s, 0.1),
            ("read_timeout_s", self.read_timeout_s, 0.1),
        ):
            if not value >= least:
                raise OptionError(f"{option} must be at least {least:g}, got {value:g}")
        if self.duration_s is not None and not self.duration_s > 0:
            raise OptionError(f"--duration must be more than 0 seconds, got {self.duration_s:g}")
        if self.max_frames is not None and self.max_frames < 1:
            raise OptionError(f"--max-frames must be at least 1, got {self.max_frames}")


class Source(ABC):
    """An iterable of frames, in the order of their times.

    A subclass reads one pass in ``_read``; start by time, stride, bounds and looping are done here.
    """

    name: str
    """Short, without folders or passwords: fit for a title, a message and the name of an output file."""
    live: bool = False
    """A camera or stream: frames cannot wait. Final once the first frame has been read."""
    fps: float | None = None
    """Nominal frame rate, known (if at all) once the first frame has been read."""
    frame_count: int | None = None
    """How many frames one pass is expected to give. Containers lie: fit for a progress bar only."""
    damaged: int = 0
    """Frames that could not be decoded and were skipped so far."""
    options: SourceOptions

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name = name
        self.options = options
        self.damaged = 0
        self._stop = Event()

    def stop(self) -> None:
        """Ask the reading thread to end after the frame in hand. Any thread may call it, any number of times."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` has been called."""
        return self._stop.is_set()

    @abstractmethod
    def _read(self) -> Iterator[Frame]:
        """One pass over the source from its first frame: open, yield, close (in ``finally``).

        Frames come with ``index`` from 0 and ``pts_s`` from 0 at the start of the source. A source that can seek
        may leave out what is shown before ``options.start_s``. It must look at ``stopped`` at least once
        a second and raise SourceError when its time-outs pass.
        """

    def __iter__(self) -> Iterator[Frame]:
        """Open the source and yield the frames that ``options`` asks for; close it at the end.

        Raises:
            SourceError: it cannot be opened, is damaged beyond use, ended or stalled while live, or times out.
        """
        wanted = self.options
        delivered = 0
        index_offset = 0
        time_offset = 0.0
        while not self.stopped:
            index = end_s = step_s = last_pts_s = -1.0
            frames = self._read()
            position = 0
            for frame in frames:
                if self.stopped:
                    break
                past_s = frame.pts_s - wanted.start_s
                if wanted.duration_s is not None and past_s >= wanted.duration_s and not self.live:
                    break
                if last_pts_s >= 0:
                    step_s = frame.pts_s - last_pts_s
                last_pts_s = frame.pts_s
                index, end_s = frame.index, frame.pts_s
                if past_s < -1e-6:
                    continue
                position += 1
                if (position - 1) % wanted.stride:
                    continue
                yield self._shifted(frame, index_offset, time_offset)
                delivered += 1
                if delivered == wanted.max_frames:
                    self._close(frames)
                    return
            self._close(frames)
            if not wanted.loop or index < 0:
                return
            index_offset += int(index) + 1
            time_offset += end_s + (step_s if step_s > 0 else 1 / (self.fps or 25.0))

    @staticmethod
    def _close(frames: Iterator[Frame]) -> None:
        """Run the ``finally`` of ``_read`` now, on this thread, not when the collector comes by."""
        close = getattr(frames, "close", None)
        if close is not None:
            close()

    @staticmethod
    def _shifted(frame: Frame, index: int, time_s: float) -> Frame:
        return replace(frame, index=frame.index + index, pts_s=frame.pts_s + time_s) if index else frame


_SCHEMES: dict[str, tuple[str, str]] = {
    "camera": ("rtseg.sources._camera", "CameraSource"),
    "demo": ("rtseg.sources._synthetic", "StreetSource"),
}
_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def open_source(where: str | Path, options: SourceOptions | None = None) -> Source:
    """The source that ``where`` names. Nothing is opened before it is iterated.

    Args:
        where: a video file; an http, https, rtsp, rtmp, srt, tcp, udp or rtp URL; ``camera:0`` or
            ``camera:/dev/video0``; a folder or a glob of pictures; a single picture; ``demo`` or ``demo:SECONDS``.
        options: which part to read; all of it unless given.

    Raises:
        OptionError: ``where`` is empty, or a scheme is not known.
        SourceNotFound: no such file, folder or picture.
    """
    raise NotImplementedError
