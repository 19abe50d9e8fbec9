"""Joins the overlays of the segments of a video into one file, without encoding them again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from rtseg.errors import SinkError
from rtseg.system.atomic_files import atomic_path, failure_reason, sink_errors

__all__ = ["join_videos"]

_CLOCK = Fraction(1, 90_000)


def join_videos(parts: Sequence[tuple[Path, float]], target: Path) -> str:
    """Write the packets of ``parts`` one after the other into ``target``, atomically.

    Args:
        parts: video files of one codec and size, and the time at which each begins in the joined video, in seconds.
        target: the file to write.

    Returns:
        Why they cannot be joined, e.g. because the size of the images changes; empty if they are.

    Raises:
        SinkError: the file cannot be written.
    """
    try:
        with sink_errors(target), atomic_path(target) as part:
            _copy(parts, part)
    except _Unequal as error:
        return str(error)
    except av.error.FFmpegError as error:
        raise SinkError(f"cannot join {target}: {failure_reason(error)}; the segments are complete") from error
    return ""


class _Unequal(Exception):
    """The parts cannot be in one video."""


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
                    raise _Unequal("the size of the images changes, so the segments are not joined")
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
