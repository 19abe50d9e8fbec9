"""Goes to a time in a video such that all frames from there on are decoded as if read from the start."""

from __future__ import annotations

import math

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

__all__ = ["seconds", "seek"]


def seconds(stamp: int | None, stream: Stream) -> float | None:
    """A time stamp of ``stream`` in seconds; None where there is none."""
    return None if stamp is None or stream.time_base is None else float(stamp * stream.time_base)


def seek(container: InputContainer, stream: VideoStream, to_s: float, step_s: float) -> None:
    """Go to a keyframe from which the frame at ``to_s`` can be decoded whole.

    Containers promise little: they look keyframes up by decoding time, which runs ahead of presentation, and
    MPEG-TS lands anywhere. So it is tried whether a keyframe comes before ``to_s``; if not, further back, at
    last from the start. A container that cannot seek at all is left where it stands.

    Args:
        container: open, at any place.
        stream: with a known start time.
        to_s: in the stream's own time, in seconds.
        step_s: nominal time between two frames, in seconds.
    """
    start_s = seconds(stream.start_time, stream) or 0.0
    for margin_s in (0.5 + 8 * step_s, 12.0):
        from_s = to_s - margin_s
        if from_s <= start_s or not _go(container, stream, from_s):
            break
        if _first_keyframe_s(container, stream) <= to_s and _go(container, stream, from_s):
            return
    # From well before the start, as the first packet's time of decoding may lie before it; some containers
    # refuse that and want the start itself.
    _ = _go(container, stream, start_s - 10.0) or _go(container, stream, start_s)


def _go(container: InputContainer, stream: VideoStream, to_s: float) -> bool:
    """Let the demuxer go to the last keyframe that it knows of before ``to_s``, with an empty decoder."""
    assert stream.time_base is not None
    try:
        container.seek(math.floor(to_s / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _first_keyframe_s(container: InputContainer, stream: VideoStream) -> float:
    """The time of the next keyframe that can be decoded from here; infinite where none comes."""
    try:
        for frame in container.decode(stream):
            time_s = seconds(frame.pts, stream)
            if frame.key_frame and time_s is not None:
                return time_s
    except av.FFmpegError:
        return math.inf
    return math.inf
