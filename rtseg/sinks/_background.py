"""A sink on a thread of its own, so that a slow disk holds nobody else."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, Final

import numpy as np

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink

__all__ = ["BackgroundSink"]

_WAITING: Final = 8
"""Frames that wait to be written; further ones are left out."""
_CLOSE_S: Final = 10.0
"""How long closing waits for a disk that does not answer."""


class BackgroundSink(Sink):
    """Passes rendered images on to ``inner`` on another thread. For live sources whose frames may be dropped.

    Args:
        inner: what writes them; it uses neither the labels nor the image of the frame. ``close`` closes it.
    """

    def __init__(self, inner: Sink) -> None:
        self.name, self.kind = inner.name, inner.kind
        self._inner = inner
        self._items: deque[tuple[Frame, Labels, Image]] = deque()
        self._changed = Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._is_raised = False
        self.left_out = 0
        """Frames that came while too many waited."""
        self._thread = Thread(target=self._run, name="rtseg-recording", daemon=True)
        self._thread.start()

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        late = f"{self.name} lacks frames: the disk or the encoder is too slow" if self.left_out else ""
        return "\n".join(filter(None, (self._inner.notice, late)))

    def facts(self) -> dict[str, Any]:
        """See ``Sink``."""
        return self._inner.facts() | ({"left_out": self.left_out} if self.left_out else {})

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Hand ``rendered`` to the thread; see ``Sink``. An error is one of an earlier frame."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        self._raise_error()
        with self._changed:
            if len(self._items) >= _WAITING:
                self.left_out += 1
                return
            self._items.append((frame, labels, np.array(rendered, order="C")))
            self._changed.notify_all()
        self.written += 1

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._items or self._ended)
                    if not self._items:
                        break
                    item = self._items.popleft()
                self._inner.write(*item)
            self._inner.close()
        except BaseException as error:  # noqa: BLE001 - not swallowed: the next call raises it
            self._error = error
            with suppress(SinkError):
                self._inner.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._is_raised = True
            raise self._error

    def close(self) -> None:
        """Write what waits, and close ``inner``; see ``Sink``."""
        if self._ended:
            return
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            raise SinkError(f"{self.name} cannot be finished, the disk does not answer: what was written is kept")
        if not self._is_raised:
            self._raise_error()
