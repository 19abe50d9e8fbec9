"""Corrects the timestamps of frames, and makes those of live streams that have none."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["FrameClock", "stamp_arrivals"]

T = TypeVar("T")

_RESET_S = 1.0
"""A timestamp this much earlier than the previous one, in seconds, is a reset of the clock."""
_BLOCKED_S = 0.01
"""A packet that takes longer, in seconds, was not there yet when it was asked for."""
_MAX_EARLY = 256


def stamp_arrivals(packets: Iterable[T], started_s: float) -> Iterator[tuple[T, float]]:
    """Yield each packet with the time at which it arrived, as ``time.monotonic()``.

    The packets that arrived while the stream was opened, to find out its format, are all there at once. Their times
    are spread evenly from ``started_s`` until now.

    Args:
        packets: waits for each packet until it arrives.
        started_s: when the stream was asked for.
    """
    opened_s = last_s = time.monotonic()
    early: list[T] = []
    on_time: list[tuple[T, float]] = []
    iterator = iter(packets)
    for packet in iterator:
        now_s = time.monotonic()
        if now_s - last_s > _BLOCKED_S or len(early) == _MAX_EARLY:
            on_time.append((packet, now_s))
            break
        early.append(packet)
        last_s = now_s
    for position, packet in enumerate(early):
        yield packet, started_s + (opened_s - started_s) * position / len(early)
    yield from on_time
    for packet in iterator:
        yield packet, time.monotonic()


class FrameClock:
    """Converts the timestamps of a stream to seconds that never decrease.

    A missing timestamp becomes one frame after the previous one. A timestamp slightly before the previous one (an
    error of one frame in the container) becomes equal to it. A much earlier timestamp means that the clock was reset,
    as when a camera restarts or MPEG-TS wraps around; then times continue from the previous frame.
    """

    def __init__(self, origin_s: float | None, step_s: float) -> None:
        """Create it before the first frame.

        Args:
            origin_s: timestamp of the start of the stream, in seconds; None uses the first frame.
            step_s: nominal time between two frames, in seconds.
        """
        self._origin_s = origin_s
        self._step_s = step_s
        self._last_s: float | None = None

    def __call__(self, stamp_s: float | None) -> float:
        """Time of the next frame in seconds from the start of the stream; ``stamp_s`` is its timestamp."""
        expected_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stamp_s is None:
            time_s = expected_s
        else:
            if self._origin_s is None:
                self._origin_s = stamp_s
            time_s = stamp_s - self._origin_s
            minimum_s = self._last_s or 0.0
            if self._last_s is not None and time_s < minimum_s - _RESET_S:
                self._origin_s = stamp_s - expected_s
                time_s = expected_s
            time_s = max(time_s, minimum_s)
        self._last_s = time_s
        return time_s
