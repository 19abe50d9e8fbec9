"""Nowhere: for measuring, and for runs that only report."""

from __future__ import annotations

from rtseg.frame import Frame, Labels, Picture
from rtseg.sinks.base import Sink

__all__ = ["NullSink"]


class NullSink(Sink):
    """Counts the frames."""

    kind = "null"
    name = "nowhere"
    needs_picture = False

    def write(self, frame: Frame, labels: Labels, picture: Picture | None) -> None:
        """Count one frame."""
        self.written += 1

    def close(self) -> None:
        """Nothing to finish."""
