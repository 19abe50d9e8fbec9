"""The contract of a sink."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rtseg.frame import Frame, Image, Labels

__all__ = ["Sink"]


class Sink(ABC):
    """Takes the frames of one run, in order, on one thread. Opens its file or window with the first frame."""

    name: str
    """What a message calls it, e.g. ``video out.mp4``."""
    kind: str
    """``video``, ``window``, ``masks``, ``stats`` or ``null``: the name of its stage in a report."""
    needs_rendered: bool = True
    """Whether ``write`` looks at ``rendered``; when no sink does, nothing is drawn."""
    written: int = 0
    """Frames taken so far."""

    @abstractmethod
    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Take one result. Nothing that is passed may be kept or changed after the return.

        Args:
            frame: as it came from the source.
            labels: class ids, uint8 (H, W), of the frame's size.
            rendered: the drawn result, uint8 BGR; None only where ``needs_rendered`` is False.

        Raises:
            SinkError: it cannot be written; what was written before is safe.
            SinkClosed: the viewer closed the window.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what was begun and give it its final name. A second call does nothing.

        Raises:
            SinkError: the last bytes cannot be written.
        """
