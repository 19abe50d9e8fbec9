"""The interface of a source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

from rtseg.errors import OptionError, SourceError
from rtseg.sources.options import SourceOptions

if TYPE_CHECKING:  # Frame would load numpy, which ``rtseg stream --help`` does not need
    from rtseg.frame import Frame
    from rtseg.sources.video.audio import AudioReader

__all__ = ["Source"]

_SAME_S = 1e-6
"""Times that differ by less, in seconds, are equal: timestamps are fractions, and floats only approximate them."""


class Source(ABC):
    """An iterable of frames, in the order of their times.

    A subclass reads one pass in ``_read``. This class applies start time, duration, stride, limits and looping.
    """

    name: str
    """Short and without folders or passwords, for titles, messages and the names of output files."""
    live: bool = False
    """Whether it is a camera or stream, whose frames cannot wait. Final once the first frame has been read."""
    channels: int = 3
    """Channels of its images; see ``rtseg.frame.Image``."""
    fps: float | None = None
    """Nominal frame rate; None if unknown. Final once the first frame has been read."""
    frame_count: int | None = None
    """Expected frames of one pass. Containers may be wrong, so use it only for progress."""
    damaged: int = 0
    """Frames skipped so far because they could not be decoded."""
    dropped: int = 0
    """Frames of a live source that were skipped so far because newer ones were there."""
    may_drop: bool = True
    """Whether a live source may skip frames that are older than others that are there. Set it before the first frame.
    """
    damaged_names: list[str]
    """Names of the damaged images, for images from files."""
    pass_starts_s: list[float]
    """``pts_s`` at which each pass over the source began so far: one, or with ``--loop`` more."""
    options: SourceOptions
    takes_fps: bool = False
    """Whether ``options.fps`` applies: the source has no timestamps, or can be asked for a frame rate."""
    notice: str = ""
    """What was assumed about the source, or is odd about its files: lines, final after the last frame; may be empty."""
    is_endless: bool = False
    """Whether it never ends by itself, although it is not live."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name = name
        if options.fps is not None and not self.takes_fps:
            raise self._fps_error()
        self.options = options
        self.damaged = self.dropped = 0
        self.damaged_names = []
        self.pass_starts_s = []
        self._stop = Event()

    def _fps_error(self) -> OptionError:
        return OptionError(f"--fps: {self.name} has a frame rate of its own; leave --fps out")

    def stop(self) -> None:
        """Ask the reading thread to end after the current frame. Any thread may call it, any number of times."""
        self._stop.set()

    def set_output_format(self, channels: int, size: tuple[int, int] | None = None) -> None:
        """Choose the channels of the images. Call it before reading the first frame.

        Args:
            channels: see ``rtseg.frame.Image``.
            size: input size (H, W) of the model, in pixels: the source may shrink images to it if ``options`` allow.

        Raises:
            OptionError: the source has no such images: videos, cameras and synthetic streets only have colours.
        """
        if channels != self.channels:
            raise OptionError(
                f"{self.name} has {self.channels} channels, but the model needs {channels}: "
                "give a folder of images that have them"
            )

    def probe(self) -> bool | None:
        """Whether the device of a live source is there, without opening it; None if that cannot be known."""
        return None

    @property
    def state(self) -> str:
        """What a live source is doing, for a progress display; empty if that is not known."""
        return ""

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` has been called."""
        return self._stop.is_set()

    def facts(self) -> dict[str, Any]:
        """Further facts about the reading for a report, as JSON values. Call it after the last frame."""
        return {}

    def open_audio(self) -> AudioReader | None:
        """Open the audio, to be read on the thread that calls this; None if there is none.

        Only local video files have audio: of cameras, streams and URLs only the images are read.
        """
        return None

    @abstractmethod
    def _read(self) -> Iterator[Frame]:
        """Read one pass over the source: open it, yield its frames, close it in ``finally``.

        ``pts_s`` starts at 0 at the beginning of the source. A source that can seek may omit the frames before
        ``options.start_s``; ``index`` may start anywhere. Check ``stopped`` at least once a second (while no data
        arrives: at every timeout), and raise SourceError when a timeout has expired.
        """

    def __iter__(self) -> Iterator[Frame]:
        """Open the source, yield the frames that ``options`` select, and close it.

        The first frame has index 0. Its ``pts_s`` is its time in the source, ``start_s`` or a little more.

        Raises:
            SourceError: the source cannot be opened, has no usable frame, ended or stalled while live, timed out,
                or ends before ``options.start_s``.
        """
        options = self.options
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
                    past_s = frame.pts_s - options.start_s
                    if past_s < -_SAME_S:
                        continue
                    if options.duration_s is not None and past_s >= options.duration_s - _SAME_S:
                        break
                    if last is not None:
                        step_s = frame.pts_s - last.pts_s
                    if first is None:
                        self.pass_starts_s.append(frame.pts_s + time_offset_s)
                    first, last = first or frame, frame
                    if position % options.stride == 0:
                        index = frame.index - first.index + index_offset
                        duration_s = frame.duration_s if options.stride == 1 else None
                        yield replace(frame, index=index, pts_s=frame.pts_s + time_offset_s, duration_s=duration_s)
                        delivered += 1
                        if delivered == options.max_frames:
                            return
                    position += 1
            finally:
                self._close(frames)
            if first is None or last is None:
                if options.start_s > 0 and not self.stopped:
                    raise SourceError(f"{self.name} ends before --start {options.start_s:g}: give an earlier start")
                return
            if not options.loop:
                return
            index_offset += last.index - first.index + 1
            time_offset_s += last.pts_s - first.pts_s + (step_s if step_s > 0 else 1 / (self.fps or 25.0))

    @staticmethod
    def _close(frames: Iterator[Frame]) -> None:
        """Run the ``finally`` of ``_read`` now, on this thread, not whenever the garbage collector does."""
        close = getattr(frames, "close", None)
        if close is not None:
            close()
