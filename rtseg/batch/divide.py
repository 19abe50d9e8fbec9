"""Divides one video into segments that begin at key frames. Only demuxes: nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.batch.local_copy import LocalCopy
from rtseg.batch.manifest import Segment, VideoEntry
from rtseg.batch.remote_files import describe
from rtseg.errors import SourceError
from rtseg.model_file.spec import file_sha256
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.container import find_video_stream, has_clock, is_encrypted, no_video_reason, open_file
from rtseg.sources.video.decode import file_packets
from rtseg.sources.video.seek import seconds
from rtseg.system.remote import is_url

__all__ = ["Division", "divide_video", "is_unchanged"]


@dataclass(frozen=True, slots=True)
class Division:
    """How videos are divided."""

    segment_s: float
    """Shortest length of a segment, in seconds."""
    align: int = 1
    """Decoding of a segment begins at a frame whose number is a multiple of this."""
    lead: int = 0
    """Decoding begins at least so many frames before the segment."""

    def plan(self) -> dict[str, str]:
        """As texts, to be stored with a manifest."""
        return {"segment_s": repr(self.segment_s), "align": str(self.align), "lead": str(self.lead), "version": "1"}


@dataclass(frozen=True, slots=True)
class _Packets:
    """The frames of a video in the order in which they are shown."""

    times_s: Sequence[float]
    """From the start of the video, in seconds."""
    keys_s: Sequence[float]
    """Times of the key frames."""


def is_unchanged(video: VideoEntry) -> bool:
    """Whether its file still has the content that ``video`` describes. Reads it only if its time has changed."""
    try:
        if is_url(video.path):
            facts = describe(video.path)
            return bool(facts.version) and (facts.bytes, facts.version) == (video.bytes, video.version)
        found = Path(video.path).stat()
        if found.st_size != video.bytes:
            return False
        return str(found.st_mtime_ns) == video.version or file_sha256(Path(video.path)) == video.sha256
    except OSError:
        return False


def divide_video(path: str, division: Division) -> VideoEntry:
    """Return the segments of a video, or why it cannot be used.

    Args:
        path: a local file, or a URL, which is copied.
        division: how to divide it.
    """
    copy = LocalCopy()
    try:
        if is_url(path):
            facts = describe(path)
            size, version = facts.bytes, facts.version
        else:
            found = Path(path).stat()
            size, version = found.st_size, str(found.st_mtime_ns)
        local = copy.get(path)
        entry = VideoEntry(path, size, version, file_sha256(local))
    except SourceError as error:
        return VideoEntry(path, 0, "", "", error=str(error))
    except OSError as error:
        return VideoEntry(path, 0, "", "", error=f"cannot be read ({error.strerror})")
    try:
        return _divide(entry, local, division)
    finally:
        copy.close()


def _divide(entry: VideoEntry, path: Path, division: Division) -> VideoEntry:
    try:
        found = _read_packets(path)
    except SourceError as error:
        return _with(entry, error=str(error).removeprefix(f"{path} ").removeprefix(f"{path}: "))
    if isinstance(found, str):
        whole = Segment(0, 0.0, None, 0, None, 0.0, 0)
        return _with(entry, segments=(whole,), note=found)
    if not found.times_s:
        return _with(entry, error="contains no frame: it is cut off or damaged")
    return _with(entry, segments=_segments(found, division))


def _with(entry: VideoEntry, *, segments: tuple[Segment, ...] = (), note: str = "", error: str = "") -> VideoEntry:
    return VideoEntry(entry.path, entry.bytes, entry.version, entry.sha256, segments, note, error)


def _read_packets(path: Path) -> _Packets | str:
    """The times of all frames; or why the video cannot be divided, though it may be decoded from its start.

    Raises:
        SourceError: it is no video, or is encrypted.
    """
    with open_file(path, SourceOptions()) as container:
        stream = find_video_stream(container)
        if stream is None:
            raise SourceError(no_video_reason(container))
        if is_encrypted(container, stream):
            raise SourceError("is encrypted: give a copy without copy protection (DRM)")
        origin_s = seconds(stream.start_time, stream)
        if not has_clock(container) or container.format.name == "avi" or origin_s is None:
            return "not divided: its container has no presentation times"
        times: list[float] = []
        keys: list[float] = []
        damaged: list[None] = []
        for packet in file_packets(container, stream, lambda: damaged.append(None)):
            if not packet.size or packet.is_discard:
                continue
            time_s = seconds(packet.pts, stream)
            if time_s is None:
                return "not divided: some frames have no timestamp"
            time_s -= origin_s
            if keys and time_s < keys[-1] and packet.is_keyframe:
                return "not divided: its timestamps start again"
            if len(keys) > 1 and time_s < keys[-2]:
                return "not divided: its timestamps start again"
            times.append(time_s)
            if packet.is_keyframe:
                keys.append(time_s)
        if damaged:
            return "not divided: the file is damaged"
    return _Packets(sorted(times), keys)


def _segments(packets: _Packets, division: Division) -> tuple[Segment, ...]:
    times = packets.times_s
    positions = {time_s: position for position, time_s in reversed([*enumerate(times)])}
    starts = [0]
    for key_s in packets.keys_s:
        position = positions[key_s]
        if key_s - times[starts[-1]] >= division.segment_s - 1e-6 and position > starts[-1]:
            starts.append(position)
    segments = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else None
        lead = max(0, start - division.lead) // division.align * division.align
        frames = (len(times) if end is None else end) - start
        end_s = None if end is None else times[end]
        start_s, lead_start_s = (times[position] if position else 0.0 for position in (start, lead))
        segments.append(Segment(number, start_s, end_s, start, frames, lead_start_s, start - lead))
    return tuple(segments)
