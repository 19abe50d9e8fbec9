"""The contract of a source, and which frames of it are wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from rtseg.errors import OptionError, SourceError
from rtseg.frame import Frame
from rtseg.image_io.options import ReadOptions

if TYPE_CHECKING:
    from rtseg.sources.video.audio import AudioReader

__all__ = ["Source", "SourceOptions"]

_MAX_NUMBER = 1e9
"""Of seconds and of strides: 31 years; anything beyond is a slip, and would overflow the clocks of containers."""
_SAME_S = 1e-6
"""Two times closer than this, in seconds, are one: time stamps are fractions that floats only approach."""


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
    reading: ReadOptions = field(default_factory=ReadOptions)
    """How image files are read; of no meaning to other sources."""

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--start", self.start_s, 0.0),
            ("--stride", self.stride, 1),
            ("open_timeout_s", self.open_timeout_s, 0.1),
            ("read_timeout_s", self.read_timeout_s, 0.1),
        ):
            if not least <= value <= _MAX_NUMBER:
                raise OptionError(f"{option} must be in {least:g} .. {_MAX_NUMBER:g}, got {value:g}")
        if self.duration_s is not None and not 0 < self.duration_s <= _MAX_NUMBER:
            raise OptionError(
                f"--duration must be more than 0 seconds, at most {_MAX_NUMBER:g}, got {self.duration_s:g}"
            )
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
    channels: int = 3
    """Of its images; see ``rtseg.frame.Image``."""
    fps: float | None = None
    """Nominal frame rate, known (if at all) once the first frame has been read."""
    frame_count: int | None = None
    """How many frames one pass is expected to give. Containers lie: fit for a progress bar only."""
    damaged: int = 0
    """Frames that could not be decoded and were skipped so far."""
    damaged_names: list[str]
    """Of images from files: the names of those."""
    pass_starts_s: list[float]
    """``pts_s`` at which each pass over the source began so far: one, or with ``--loop`` more."""
    options: SourceOptions

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name = name
        self.options = options
        self.damaged = 0
        self.damaged_names = []
        self.pass_starts_s = []
        self._stop = Event()

    def stop(self) -> None:
        """Ask the reading thread to end after the frame in hand. Any thread may call it, more than once."""
        self._stop.set()

    def set_output_format(self, channels: int, size: tuple[int, int] | None = None) -> None:
        """Have images of so many ``channels`` from now on; to be said before the first frame is read.

        Args:
            channels: see ``rtseg.frame.Image``.
            size: (H, W) in pixels that the model sees them in: what a source may shrink them to, where that is asked
                for in ``options``.

        Raises:
            OptionError: the source has none: videos, cameras and what is drawn are in colour, and nothing else.
        """
        if channels != self.channels:
            raise OptionError(
                f"{self.name} gives {self.channels} channels, and the model wants {channels}: "
                "give images, in a folder, that hold them"
            )

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` has been called."""
        return self._stop.is_set()

    def facts(self) -> dict[str, Any]:
        """What a report is to say of the reading besides, for JSON; call it after the last frame."""
        return {}

    def open_audio(self) -> AudioReader | None:
        """Open the audio, to be read on the thread that calls this; None if there is none.

        Only local video files have audio: of cameras, streams and URLs only the images are read.
        """
        return None

    @abstractmethod
    def _read(self) -> Iterator[Frame]:
        """One pass over the source from its first frame: open, yield, close (in ``finally``).

        ``pts_s`` counts from 0 at the start of the source. A source that can seek may leave out what is shown
        before ``options.start_s``; ``index`` may begin anywhere. It must look at ``stopped`` at least once a
        second (while a peer is silent: as often as its time-outs pass) and raise SourceError when they do.
        """

    def __iter__(self) -> Iterator[Frame]:
        """Open the source and yield the frames that ``options`` asks for; close it at the end.

        The first frame has index 0. Its ``pts_s`` is its time in the source, so ``start_s`` or a little more.

        Raises:
            SourceError: it cannot be opened, is damaged beyond use, ended or stalled while live, times out,
                or ends before ``options.start_s``.
        """
        wanted = self.options
        delivered = index_offset = 0
        time_offset_s = 0.0
        while not self.stopped:
            first: Frame | None = None
            last: Frame | None = None
            step_s, position = 0.0, 0
            frames = self._read()
            try:
                for frame in frames:
                    if self.stopped:
                        return
                    past_s = frame.pts_s - wanted.start_s
                    if past_s < -_SAME_S:
                        continue
                    if wanted.duration_s is not None and past_s >= wanted.duration_s - _SAME_S:
                        break
                    if last is not None:
                        step_s = frame.pts_s - last.pts_s
                    if first is None:
                        self.pass_starts_s.append(frame.pts_s + time_offset_s)
                    first, last = first or frame, frame
                    if position % wanted.stride == 0:
                        index = frame.index - first.index + index_offset
                        yield replace(frame, index=index, pts_s=frame.pts_s + time_offset_s)
                        delivered += 1
                        if delivered == wanted.max_frames:
                            return
                    position += 1
            finally:
                self._close(frames)
            if first is None or last is None:
                if wanted.start_s > 0 and not self.stopped:
                    raise SourceError(f"{self.name} ends before --start {wanted.start_s:g}: give an earlier start")
                return
            if not wanted.loop:
                return
            index_offset += last.index - first.index + 1
            time_offset_s += last.pts_s - first.pts_s + (step_s if step_s > 0 else 1 / (self.fps or 25.0))

    @staticmethod
    def _close(frames: Iterator[Frame]) -> None:
        """Run the ``finally`` of ``_read`` now, on this thread, not when the collector comes by."""
        close = getattr(frames, "close", None)
        if close is not None:
            close()
