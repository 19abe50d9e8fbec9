"""The manifest: every video, divided into segments that begin at key frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rtseg.errors import MissingExtra

__all__ = [
    "Segment",
    "VideoEntry",
    "load_pyarrow",
    "read_manifest",
    "segment_folder",
    "video_from_json",
    "video_id",
    "write_manifest",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video. Its frames are those from ``start_s`` until before ``end_s``."""

    number: int
    """From 0."""
    start_s: float
    """Time of its first frame, a key frame, in seconds from the start of the video."""
    end_s: float | None
    """Time of the first frame of the next segment; None for the last segment."""
    first_frame: int
    """Position of its first frame in the video."""
    frames: int | None
    """Number of frames, as the container says; None if only decoding would tell."""
    lead_start_s: float
    """Where to begin to decode, so that labels continue those of the segment before."""
    lead_frames: int
    """Frames from there to the segment."""


@dataclass(frozen=True, slots=True)
class VideoEntry:
    """A video with its segments, or why it has none."""

    path: str
    """Absolute path, or URL."""
    bytes: int
    version: str
    """Time of its last change, or the version that an object store names: while it is equal, nothing is read."""
    sha256: str
    segments: tuple[Segment, ...] = ()
    note: str = ""
    """Why it is not divided, or what is wrong with it."""
    error: str = ""
    """Why it cannot be used; then it has no segments."""

    @property
    def id(self) -> str:
        """Name of its folder of results; see ``video_id``."""
        return video_id(self.path)


def video_id(path: str) -> str:
    """A file name that is unique for a path: its stem and eight hex digits."""
    digest = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:8]
    stem = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in Path(path).stem)
    return f"{stem.encode()[:120].decode(errors='ignore') or 'video'}-{digest}"


def video_from_json(facts: dict[str, Any]) -> VideoEntry:
    """The inverse of ``dataclasses.asdict``."""
    return VideoEntry(**facts | {"segments": tuple(Segment(**each) for each in facts["segments"])})


def segment_folder(video: VideoEntry, segment: Segment) -> str:
    """Where the results of a segment are, below the output folder."""
    return f"segments/{video.id}/{segment.number:05d}"


def write_manifest(path: Path, videos: Iterable[VideoEntry], plan: dict[str, str]) -> None:
    """Write one row for each segment, and one for each video without any, as Parquet.

    Args:
        path: the file.
        videos: in their order.
        plan: what the division depends on; becomes metadata of the table.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    pa, parquet = load_pyarrow()
    rows = [row for video in videos for row in _rows(video)]
    schema = _schema(pa).with_metadata(plan)
    table = pa.Table.from_pylist(rows, schema=schema)
    parquet.write_table(table, path, row_group_size=10_000)


def read_manifest(path: Path) -> tuple[list[VideoEntry], dict[str, str]]:
    """Return what ``write_manifest`` wrote; nothing if there is no readable manifest.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pa, parquet = load_pyarrow()
    try:
        table = parquet.read_table(path, schema=_schema(pa))
        plan = {key.decode(): value.decode() for key, value in (parquet.read_schema(path).metadata or {}).items()}
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError):  # none yet, of another version, or damaged: made again
        return [], {}
    videos: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        videos.setdefault(row["path"], []).append(row)
    return [_entry(rows) for rows in videos.values()], plan


def load_pyarrow() -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        MissingExtra: they are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra.for_feature("rtseg batch", "pyarrow", "batch") from error
    return pa, parquet


def _schema(pa: Any) -> Any:
    text, count, seconds = pa.string(), pa.int64(), pa.float64()
    video = {"path": text, "bytes": count, "version": text, "sha256": text, "note": text, "error": text}
    segment = {"number": count, "start_s": seconds, "end_s": seconds, "first_frame": count, "frames": count}
    return pa.schema(video | segment | {"lead_start_s": seconds, "lead_frames": count})


def _rows(video: VideoEntry) -> list[dict[str, Any]]:
    common = {field.name: getattr(video, field.name) for field in fields(VideoEntry) if field.name != "segments"}
    return [common | asdict(segment) for segment in video.segments] or [common]


def _entry(rows: Sequence[dict[str, Any]]) -> VideoEntry:
    names = [field.name for field in fields(Segment)]
    segments = tuple(Segment(**{name: row[name] for name in names}) for row in rows if row["number"] is not None)
    common = {field.name: rows[0][field.name] for field in fields(VideoEntry) if field.name != "segments"}
    return VideoEntry(**common, segments=segments)
