"""The contract of a sink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it would load numpy, which ``rtseg stream --help`` does not need
    from rtseg.frame import Frame, Image, Labels

__all__ = ["Sink"]


class Sink(ABC):
    """Receives the frames of one run, in order, on one thread. The first frame opens its window."""

    name: str
    """Used in messages, e.g. ``video out.mp4``."""
    kind: str
    """``video``, ``window``, ``masks``, ``polygons``, ``stats``, ``events``, ``null``: its stage in a report."""
    needs_rendered: bool = True
    """Whether ``write`` uses ``rendered``. If no sink does, nothing is drawn."""
    written: int = 0
    """Frames written so far."""

    @property
    def notice(self) -> str:
        """What the result lacks or what has happened to it: lines, which may become more until after ``close``."""
        return ""

    def facts(self) -> dict[str, Any]:
        """Figures of its own for the report."""
        return {}

    @abstractmethod
    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write one result. Do not keep or change any argument after the return.

        Args:
            frame: as it came from the source.
            labels: class IDs, uint8 (H, W), in the size of the frame.
            rendered: the frame with its labels drawn, uint8 BGR (H, W, 3); None only if ``needs_rendered`` is False.

        Raises:
            SinkError: it cannot be written; earlier frames are safe.
            SinkClosed: the viewer closed the window.
        """

    def idle(self) -> None:  # noqa: B027 - most have nothing to do
        """Look for what happens without frames. Called about four times a second, on the thread of ``write``."""

    @abstractmethod
    def close(self) -> None:
        """Finish the output and give it its final name. A second call does nothing.

        Raises:
            SinkError: the last bytes cannot be written.
        """
