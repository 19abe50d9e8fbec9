"""Records on demand: a video that begins and ends while the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink
from rtseg.sinks.video import VideoSink

__all__ = ["RecorderSink"]


class RecorderSink(Sink):
    """Writes frames between ``start`` and ``stop`` to a video. What goes wrong ends the recording, not the run.

    ``start`` and ``stop`` may be called from any thread. They take effect with the next frame.

    Args:
        name: used in messages.
        draw: draws the labels of a frame over its image.
        fps_hint: nominal frame rate of the source.
    """

    kind = "recorder"
    needs_rendered = False

    def __init__(self, name: str, draw: Callable[[Image, Labels], Image], fps_hint: float | None = None) -> None:
        self.name = name
        self._draw, self._fps_hint = draw, fps_hint
        self._lock = Lock()
        self._wanted: VideoSink | None = None
        self._video: VideoSink | None = None
        self.problem = ""
        """Why the last recording ended early; empty if it did not."""
        self.finished: list[Path] = []
        """Files that are complete."""

    @property
    def path(self) -> Path | None:
        """The file that is recorded now; None if there is none."""
        wanted = self._wanted
        return None if wanted is None else wanted.path

    def start(self, path: Path) -> None:
        """Record to ``path``, a ``.mp4``, ``.mov`` or ``.mkv`` file that does not exist.

        Raises:
            SinkError: a recording is going on already, or the file cannot be written.
            OutputExists: there is such a file.
        """
        with self._lock:
            if self._wanted is not None:
                raise SinkError(f"{self.name} is recording already: stop that recording first")
            self._wanted = VideoSink(path, fps_hint=self._fps_hint, live=True)
            self.problem = ""

    def stop(self) -> None:
        """End the recording; does nothing if there is none."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
            if wanted is not None and self._video is None:
                wanted.close()  # no frame has come

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write the frame if a recording is going on; see ``Sink``."""
        with self._lock:
            wanted, video = self._wanted, self._video
            self._video = wanted
        if video is not None and video is not wanted:
            self._finish(video)
        if wanted is not None:
            try:
                wanted.write(frame, labels, self._draw(frame.image, labels))
            except SinkError as error:
                self._give_up(wanted, error)
        self.written += 1

    def close(self) -> None:
        """Finish the recording; see ``Sink``."""
        with self._lock:
            wanted, video = self._wanted, self._video
            self._wanted = self._video = None
        for each in {wanted, video} - {None}:
            assert each is not None
            self._finish(each)

    def _give_up(self, video: VideoSink, error: SinkError) -> None:
        with self._lock:
            self.problem = str(error)
            self._video = None
            if self._wanted is video:
                self._wanted = None
        video.close()

    def _finish(self, video: VideoSink) -> None:
        try:
            video.close()
        except SinkError as error:
            self.problem = str(error)
        else:
            if video.written:
                self.finished.append(video.path)
