"""Writes results to the sinks of a run. A sink that fails ends alone, as long as others go on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rtseg.errors import SinkClosed, SinkError
from rtseg.pipeline.report import RunCounters
from rtseg.pipeline.stages import Result
from rtseg.sinks.base import Sink

__all__ = ["SinkWriter"]


class SinkWriter:
    """Sends each result to every sink. Use it on one thread.

    Args:
        sinks: where results go, in this order.
        counters: count the results and measure the sinks.
    """

    def __init__(self, sinks: Sequence[Sink], counters: RunCounters) -> None:
        self._sinks = list(sinks)
        self._counters = counters
        self.failures: list[str] = []
        """Why sinks ended before the run, one line each."""
        self.failed: list[Sink] = []
        """These sinks."""

    def write(self, result: Result) -> None:
        """Write ``result`` to every sink that still works.

        Raises:
            SinkError: the last working sink failed.
            SinkClosed: the viewer closed the window; the other sinks have this result.
        """
        closed: SinkClosed | None = None
        failed: dict[Sink, SinkError] = {}
        for sink in self._sinks:
            started_s = time.perf_counter()
            try:
                sink.write(result.frame, result.labels, result.rendered)
            except SinkClosed as error:
                closed = error
            except SinkError as error:
                failed[sink] = error
            else:
                self._counters.durations[sink.kind].add(time.perf_counter() - started_s)
        if len(self._sinks) > len(failed) + (closed is not None) or not self._sinks:
            self._counters.count_written(result.frame, result.labels)
        self._remove(failed)
        if closed is not None:
            raise closed

    def idle(self) -> None:
        """Let every sink that still works do what it does without frames."""
        for sink in self._sinks:
            sink.idle()

    def _remove(self, failed: dict[Sink, SinkError]) -> None:
        self._sinks = [sink for sink in self._sinks if sink not in failed]
        self.failed += failed
        if failed and not self._sinks:
            *others, last = failed.values()
            self.failures += [str(error) for error in others]
            raise last
        self.failures += [f"{error}. The other outputs go on" for error in failed.values()]
