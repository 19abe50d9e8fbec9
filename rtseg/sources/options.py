"""Which frames of a source are read, and how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.image_io.options import ReadOptions
from rtseg.option import Group, Option

__all__ = ["RTSP_TRANSPORTS", "SourceOptions"]

RTSP_TRANSPORTS = ("tcp", "udp")
_PANEL, _LIVE = "Input", "Live input"
_MAX_NUMBER = 1e9
"""For seconds and strides. More than 31 years is a typo, and would overflow the timestamps of containers."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Which frames of a source to read, and how long to wait for it.

    Raises:
        OptionError: a number is out of range.
    """

    start_s: Annotated[float, Option(_PANEL, ("--start",))] = 0.0
    """Skip the frames before this time, in seconds."""
    duration_s: Annotated[float | None, Option(_PANEL, ("--duration",))] = None
    """Length of the part to read, in seconds. With ``--loop`` that part is repeated."""
    stride: Annotated[int, Option(_PANEL)] = 1
    """Use every n-th frame."""
    max_frames: Annotated[int | None, Option(_PANEL)] = None
    """Stop after this many frames."""
    fps: Annotated[float | None, Option(_PANEL, default="25 for images")] = None
    """Frame rate of images and of raw video files (.h264, .mjpeg), which have no timestamps, or the rate to ask a
    camera for. All other sources have a rate of their own and refuse it."""
    raw: Annotated[str | None, Option(_PANEL, metavar="FORMAT:WxH@FPS")] = None
    """Frames without a container on standard input, e.g. bgr24:1280x720@30."""
    loop: Annotated[bool, Option(_PANEL)] = False
    """Start again at the end. Timestamps keep rising."""
    open_timeout_s: Annotated[float, Option(_LIVE, ("--open-timeout",))] = 5.0
    """Longest wait, in seconds, for a stream to open."""
    read_timeout_s: Annotated[float, Option(_LIVE, ("--read-timeout",))] = 2.0
    """Longest wait, in seconds, for the next frame. After it, a live source is opened again."""
    max_downtime_s: Annotated[
        float | None, Option(_LIVE, ("--max-downtime",), default="for ever, but not at the start")
    ] = None
    """How long to try to open a live source again, in seconds, before the run ends. 0: never."""
    max_latency_ms: Annotated[float | None, Option(_LIVE, ("--max-latency",), metavar="MS")] = None
    """Drop images of a live source that are older than this, in milliseconds, before inference."""
    freeze_timeout_s: Annotated[float, Option(_LIVE, ("--freeze-timeout",))] = 10.0
    """Withhold the images of a live source that have been identical, or of one colour, for longer than this, in
    seconds. 0: never."""
    rtsp_transport: Annotated[str, Option(_LIVE, choices=RTSP_TRANSPORTS)] = "tcp"
    """How RTSP video is sent. UDP has less delay, but loses packets."""
    allow_playlists: Annotated[bool, Option(_PANEL, ("--playlists",))] = False
    """Allow playlists (.m3u8, .mpd). They may name other files and hosts to read."""
    show_damaged: Annotated[bool, Option(_PANEL)] = False
    """Show the frames of a live stream that may be damaged: those from lost data to the next key frame. By default they
    are dropped. Both are counted."""
    reading: Annotated[ReadOptions, Group()] = field(default_factory=ReadOptions)
    """How image files are read; other sources ignore it."""

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--start", self.start_s, 0.0),
            ("--stride", self.stride, 1),
            ("--open-timeout", self.open_timeout_s, 0.1),
            ("--read-timeout", self.read_timeout_s, 0.1),
            ("--max-downtime", self.max_downtime_s or 0.0, 0.0),
            ("--max-latency", 1.0 if self.max_latency_ms is None else self.max_latency_ms, 1.0),
            ("--freeze-timeout", self.freeze_timeout_s, 0.0),
        ):
            if not least <= value <= _MAX_NUMBER:
                raise OptionError(f"{option} must be in {least:g} .. {_MAX_NUMBER:g}, got {value:g}")
        if self.rtsp_transport not in RTSP_TRANSPORTS:
            raise OptionError(f"--rtsp-transport must be tcp or udp, got {self.rtsp_transport!r}")
        if self.duration_s is not None and not 0 < self.duration_s <= _MAX_NUMBER:
            raise OptionError(
                f"--duration must be more than 0 seconds, at most {_MAX_NUMBER:g}, got {self.duration_s:g}"
            )
        if self.fps is not None and not 0.001 <= self.fps <= 1000:
            raise OptionError(f"--fps must be in 0.001 .. 1000 frames per second, got {self.fps:g}")
        if self.max_frames is not None and self.max_frames < 1:
            raise OptionError(f"--max-frames must be at least 1, got {self.max_frames}")
