"""All sources in one window or video."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock

import numpy as np

from rtseg.app.many_streams import CameraStatus
from rtseg.errors import SinkClosed, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.sinks.base import Sink
from rtseg.visualize.grid import Cell, GridLayout, draw_grid, fit

__all__ = ["GridCell", "GridView"]

_STALE_S = 2.0
"""An older image is not shown any more."""
_DRAW_EVERY_S = 0.5
"""Where no image has come, what sources do is drawn again after this time."""


class GridCell(Sink):
    """Keeps the newest image of one source, in the size of its cell.

    Args:
        source: name of the source.
        size: (H, W) of the cell.
    """

    kind = "grid"
    name = "grid"

    def __init__(self, source: str, size: tuple[int, int]) -> None:
        self.source = source
        self._size = size
        self._lock = Lock()
        self._image: Image | None = None
        self._shown_s = 0.0

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Take the place of the image before."""
        assert rendered is not None, "a grid needs rendered images"
        image = fit(rendered, self._size, float(frame.pixel_aspect))
        with self._lock:
            self._image, self._shown_s = image, time.monotonic()
            self.written += 1

    def newest(self) -> Image | None:
        """The newest image; None if there is none of the last two seconds."""
        with self._lock:
            return self._image if time.monotonic() - self._shown_s < _STALE_S else None

    def close(self) -> None:
        """Nothing is open."""


class GridView:
    """Draws the newest images of all sources, and sends the result to sinks. All calls come from one thread.

    Args:
        names: of the sources, in the order of their cells.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._layout = GridLayout(len(names))
        self.cells = {name: GridCell(name, self._layout.cell) for name in names}
        self.sinks: list[Sink] = []
        """To be set before the first ``update``; ``close`` closes them."""
        self.failures: list[str] = []
        """Why sinks ended before the others, one line each."""
        self._labels = np.full(self._layout.size, VOID, np.uint8)
        self._seen = -1
        self._drawn_s = self._started_s = 0.0
        self._index = 0

    def update(self, statuses: Sequence[CameraStatus]) -> None:
        """Draw and send, if a new image has come or half a second has passed.

        Raises:
            SinkClosed: the viewer closed the window.
        """
        now_s = time.monotonic()
        seen = sum(cell.written for cell in self.cells.values())
        if not self.sinks or (seen == self._seen and now_s - self._drawn_s < _DRAW_EVERY_S):
            return
        self._seen, self._drawn_s = seen, now_s
        self._started_s = self._started_s or now_s
        states = {status.name: status.state for status in statuses}
        image = draw_grid(
            self._layout,
            [Cell(name, cell.newest(), states.get(name, "")) for name, cell in self.cells.items()],
        )
        frame = Frame(image, self._index, now_s - self._started_s, now_s)
        self._index += 1
        for sink in list(self.sinks):
            try:
                sink.write(frame, self._labels, image)
            except SinkClosed:
                raise
            except SinkError as error:
                self.sinks.remove(sink)
                self.failures.append(f"{error}. The sources go on")

    def close(self) -> None:
        """Finish the outputs."""
        for sink in self.sinks:
            try:
                sink.close()
            except SinkError as error:
                self.failures.append(str(error))
