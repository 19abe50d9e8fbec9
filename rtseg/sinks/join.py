"""Joins video files into one, without encoding them again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from rtseg.errors import SinkError
from rtseg.system.atomic_files import failure_reason

__all__ = ["UnequalVideos", "join_videos"]

_CLOCK = Fraction(1, 90_000)


class UnequalVideos(Exception):
    """Videos cannot be joined into one, as the message says."""


def join_videos(parts: Sequence[tuple[Path, float]], target: Path) -> None:
    """Write the packets of ``parts`` one after the other into ``target``, an MP4.

    Args:
        parts: video files of one codec and size, and the time at which each begins in the joined video, in seconds.
        target: the file to write.

    Raises:
        UnequalVideos: the size of the images changes.
        SinkError: the file cannot be written.
    """
    try:
        _copy(parts, target)
    except av.error.FFmpegError as error:
        raise SinkError(f"cannot join {target}: {failure_reason(error)}; the segments are complete") from error


def _copy(parts: Sequence[tuple[Path, float]], target: Path) -> None:
    with av.open(str(target), "w", format="mp4") as output:
        out: Any = None
        last = -1
        for path, start_s in parts:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                context = stream.codec_context
                if out is None:
                    out = output.add_stream_from_template(stream)
                    header = context.extradata
                if context.extradata != header:
                    raise UnequalVideos("the size of the images changes, so the segments are not joined")
                offset = round(start_s / _CLOCK)
                for packet in container.demux(stream):
                    if packet.size == 0 or packet.pts is None or packet.time_base is None:
                        continue
                    scale = packet.time_base / _CLOCK
                    last = max(last + 1, offset + round(packet.pts * scale))  # no B-frames: order is time
                    packet.duration = round((packet.duration or 0) * scale)
                    packet.time_base = _CLOCK
                    packet.pts = packet.dts = last
                    packet.stream = out
                    output.mux(packet)
