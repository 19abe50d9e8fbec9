"""A sink without output: for benchmarks, and for runs that only report."""

from __future__ import annotations

from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink

__all__ = ["NullSink"]


class NullSink(Sink):
    """Counts the frames."""

    kind = "null"
    name = "nowhere"
    needs_rendered = False

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Count one frame."""
        self.written += 1

    def close(self) -> None:
        """Do nothing."""
