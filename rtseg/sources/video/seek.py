"""Seeks in a video so that all frames from a given time on decode as if the video was read from the start."""

from __future__ import annotations

import math

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

__all__ = ["seconds", "seek"]

_SAME_S = 1e-6
"""Times that differ by less are equal: timestamps are fractions, and floats only approximate them."""


def seconds(stamp: int | None, stream: Stream) -> float | None:
    """Convert a timestamp of ``stream`` to seconds; None if there is no timestamp or time base."""
    return None if stamp is None or stream.time_base is None else float(stamp * stream.time_base)


def seek(container: InputContainer, stream: VideoStream, to_s: float, step_s: float) -> None:
    """Seek to a keyframe from which the frame at ``to_s`` can be decoded completely.

    Seeking is not exact: containers look up keyframes by decoding time, which precedes presentation time, and MPEG-TS
    may land anywhere. So check that the first frame that decodes is a keyframe that is not after ``to_s``. If not, try
    further back, finally from the start. A container that cannot seek stays where it is.

    Args:
        container: open, at any position.
        stream: a stream with a known start time.
        to_s: time of the stream, in seconds.
        step_s: nominal time between two frames, in seconds.
    """
    start_s = seconds(stream.start_time, stream) or 0.0
    # Without a margin first: a segment of a library begins at a keyframe, and a second more would be decoded in vain.
    for margin_s in (-_SAME_S, 0.5 + 8 * step_s, 12.0):
        from_s = to_s - margin_s
        if from_s <= start_s or not _seek_demuxer(container, stream, from_s):
            break
        if _first_keyframe_s(container, stream) <= to_s + _SAME_S and _seek_demuxer(container, stream, from_s):
            return
    # To well before the start, because the decoding time of the first packet may be earlier. Some containers refuse
    # that and need the start itself.
    _ = _seek_demuxer(container, stream, start_s - 10.0) or _seek_demuxer(container, stream, start_s)


def _seek_demuxer(container: InputContainer, stream: VideoStream, to_s: float) -> bool:
    """Seek the demuxer to the last known keyframe before ``to_s`` and flush the decoder."""
    assert stream.time_base is not None
    try:
        container.seek(math.floor(to_s / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _first_keyframe_s(container: InputContainer, stream: VideoStream) -> float:
    """The time of the next decodable keyframe, in seconds; infinity if there is none."""
    try:
        for frame in container.decode(stream):
            time_s = seconds(frame.pts, stream)
            if frame.key_frame and time_s is not None:
                return time_s
    except av.FFmpegError:
        return math.inf
    return math.inf
