"""A recording in several files, the oldest of which may be deleted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.frame_rate import FrameRate
from rtseg.sinks._audio_copy import AudioPackets
from rtseg.sinks._segment_index import Segment, SegmentIndex
from rtseg.sinks._segment_names import SegmentNames
from rtseg.sinks.base import Sink
from rtseg.sinks.options import RecordingOptions
from rtseg.sinks.video import VideoSink, check_video, wall_clock_s
from rtseg.system.atomic_files import check_writable, failure_reason

__all__ = ["SegmentsSink"]

_GAP_S: Final = 2.0
"""After a longer time without frames, in seconds, the last frame of a file lasts as long as the one before it."""
_MAX_NOTICES: Final = 20
_CHECK_S: Final = 1.0
"""Time between two looks at the size of the recording."""


class SegmentsSink(Sink):
    """Writes a new video file after ``options.segment_s``, and when the size or rate of a live source changes.

    Each file begins with a keyframe and ends where the next one begins: no frame is lost or written twice, and the
    lengths of the files add up to that of the recording. See ``SegmentNames`` for the names, ``VideoSink`` for each
    file.

    With ``options.segment_s``, the files are listed in ``NAME.segments.jsonl``. With ``options.keep_bytes``, complete
    files in that list are deleted, the oldest first, also those of earlier runs. A file that has been renamed or
    changed since is left alone.

    Args:
        path: names the files; see ``SegmentNames``.
        options: how to encode, and when to begin a new file.
        fps_hint: see ``VideoSink``.
        audio: to be copied into the files. ``close`` closes it.
        live: whether frames come from a camera or stream.
        overwrite: whether an existing file may be replaced, where there is no ``options.segment_s``.

    Raises:
        OptionError: the name cannot be used.
        OutputExists: there is such a file, and it must not be replaced.
        SinkError: the file cannot be written, or another run is writing it.
    """

    kind = "video"

    def __init__(
        self,
        path: Path,
        options: RecordingOptions,
        *,
        fps_hint: Callable[[], float | None] = lambda: None,
        audio: AudioPackets | None = None,
        live: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.name = f"video {path}"
        self._options = options
        self._fps_hint = fps_hint
        self._audio = audio
        self._live = live
        self._overwrite = overwrite
        self._encoder = check_video(path, options, self.name)
        self._notices = deque([self._encoder.notice], maxlen=_MAX_NOTICES)
        self._files = self._deleted = 0
        self._rate = FrameRate()
        self._size: tuple[tuple[int, ...], Fraction] | None = None
        self._segment: Segment | None = None
        self._last_s = 0.0
        self._checked_s = time.monotonic()
        self._index: SegmentIndex | None = None
        self._current: VideoSink | None = None
        is_divided = options.segment_s is not None
        self._names = SegmentNames(path, by_time=live, plain=not is_divided)
        if is_divided:
            self.name = f"video {path} in files of {options.segment_s:g} s"
            # The name itself is never written, but must be a name that could be.
            check_writable(path.with_name(f"{path.stem}.segments{path.suffix}"), self.name)
            self._open_index(path)
        else:
            self._current = self._open(self._names.next(datetime.now().astimezone()))

    def _open_index(self, path: Path) -> None:
        try:
            self._index = SegmentIndex(path.with_name(f"{path.stem}.segments.jsonl"))
        except SinkError:
            raise
        except OSError as error:
            raise SinkError(f"{self.name} cannot be written, {failure_reason(error)}: choose another path") from error

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        own = [*self._notices, self._index.notice if self._index else ""]
        return "\n".join(dict.fromkeys(filter(None, (*own, self._current.notice if self._current else ""))))

    def _open(self, path: Path) -> VideoSink:
        options = self._options
        sink = VideoSink(
            path,
            fps_hint=self._fps_hint,
            crf=options.crf,
            codec=options.codec,
            encoder=self._encoder.kind,
            audio=self._audio,
            live=self._live,
            exact_end=True,
            overwrite=self._overwrite and options.segment_s is None,
        )
        if not sink.has_audio:
            self._audio = None
        self._files += 1
        return sink

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Encode ``rendered``, into the next file if it is time; see ``Sink``."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        reason = self._why_complete(frame, rendered)
        if self._segment is not None and reason is not None:
            self._end(frame.pts_s)
        if self._segment is None:
            self._begin(frame, rendered)
            if reason:
                self._notices.append(f"{self.name}: {reason}, which goes into a new file, {self._current_name}")
        assert self._current is not None
        self._current.write(frame, labels, rendered)
        self._last_s = frame.pts_s
        self.written += 1
        if time.monotonic() - self._checked_s > _CHECK_S:
            self._checked_s = time.monotonic()
            self._delete_oldest()

    def _why_complete(self, frame: Frame, rendered: Image) -> str | None:
        """Why the current file ends before ``frame``: a text, empty if it is only long enough; None if it goes on."""
        if self._live:
            before = self._rate.fps
            has_new_rate = self._rate.add(frame) and before is not None
            if self._size not in (None, (rendered.shape, frame.pixel_aspect)):
                return f"the images are now {rendered.shape[1]}x{rendered.shape[0]}"
            if has_new_rate:
                return f"the frame rate is now {self._rate.fps:.3g} fps"
        length_s = self._options.segment_s
        if self._segment is None or length_s is None or frame.pts_s - self._segment.pts_s < length_s - 1e-6:
            return None
        return ""

    @property
    def _current_name(self) -> str:
        return self._current.path.name if self._current is not None else ""

    def facts(self) -> dict[str, Any]:
        """See ``Sink``."""
        return {"files": self._files, "deleted_files": self._deleted}

    def _begin(self, frame: Frame, rendered: Image) -> None:
        began = datetime.fromtimestamp(wall_clock_s(frame)).astimezone()
        if self._current is None:
            self._current = self._open(self._names.next(began))
        self._size = rendered.shape, frame.pixel_aspect
        self._segment = Segment(self._current.path.name, began.isoformat(timespec="milliseconds"), frame.pts_s)
        if self._index is not None:
            self._index.begin(self._segment)

    def _end(self, next_s: float | None) -> None:
        """Complete the current file; ``next_s`` is the time of the first frame of the next one, if there is one."""
        segment, sink = self._segment, self._current
        self._segment = self._current = None
        if sink is None:
            return
        end_s = next_s if next_s is not None and next_s - self._last_s <= _GAP_S else None
        try:
            sink.end(end_s)
        finally:
            self._notices.extend(line for line in sink.notice.splitlines() if line not in self._notices)
        if segment is not None and self._index is not None:
            segment.seconds = round(sink.length_s, 6)
            segment.frames = sink.written
            self._index.end(segment)
            self._delete_oldest()

    def _delete_oldest(self) -> None:
        keep_bytes = self._options.keep_bytes
        if self._index is None or keep_bytes is None:
            return
        self._index.delete_oldest(keep_bytes, self._current.file.size if self._current is not None else 0)
        self._deleted = self._index.deleted

    def close(self) -> None:
        """Complete the last file; see ``Sink``."""
        try:
            self._end(None)
        finally:
            if self._audio is not None:
                self._audio.close()
            if self._index is not None:
                self._notices.append(self._index.notice)
                self._index.close()
                self._index = None
