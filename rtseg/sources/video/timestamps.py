"""Corrects the timestamps of frames, makes those of live streams that have none, and tells when they were captured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from threading import Event
from typing import TypeVar

__all__ = ["FrameClock", "Pacer", "StreamClock", "stamp_arrivals", "take_early"]

T = TypeVar("T")

_RESET_S = 1.0
"""A timestamp this much earlier than the previous one, in seconds, is a reset of the clock."""
_BLOCKED_S = 0.01
"""A packet that takes longer, in seconds, was not there yet when it was asked for."""
_MAX_EARLY = 256
_LATEST_S = 0.5
_JUMP_S = 1.0
"""A timestamp that is so much earlier than the one before, or so long before its time, is a jump of the clock."""
_DRIFT = 2e-4
"""Largest difference between the speeds of two clocks: five times that of a usual crystal."""
_MAX_CAMERA_DELAY_S = 5.0
_CLOCK_TOLERANCE_S = 0.1
"""A camera's clock that says that the fastest image took more, or less than nothing, is not set."""


def stamp_arrivals(packets: Iterable[T], started_s: float) -> Iterator[tuple[T, float]]:
    """Yield each packet with the time at which it arrived, as ``time.monotonic()``.

    The packets that arrived while the stream was opened, to find out its format, are all there at once. Their times
    are spread evenly from ``started_s`` until now.

    Args:
        packets: waits for each packet until it arrives.
        started_s: when the stream was asked for.
    """
    opened_s = time.monotonic()
    iterator = iter(packets)
    early, error = take_early(iterator)
    on_time = early[-1:]
    for position, (packet, _) in enumerate(early[:-1]):
        yield packet, started_s + (opened_s - started_s) * position / (len(early) - 1)
    yield from on_time
    if error is not None:
        raise error
    for packet in iterator:
        yield packet, time.monotonic()


def take_early(packets: Iterator[T]) -> tuple[list[tuple[T, float]], Exception | None]:
    """Take the packets that are there already, and the first one after them, or the error that came instead.

    Returns:
        Each packet with the time at which it was read, and the error.
    """
    taken: list[tuple[T, float]] = []
    last_s = time.monotonic()
    try:
        for packet in packets:
            now_s = time.monotonic()
            taken.append((packet, now_s))
            if now_s - last_s > _BLOCKED_S or len(taken) > _MAX_EARLY:
                break
            last_s = now_s
    except Exception as error:  # noqa: BLE001 - returned, after what came before it
        return taken, error
    return taken, None


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


class Pacer:
    """Delivers the frames of a live playlist, which come in bursts, one for each segment, at their own speed.

    Args:
        stop: ends the waiting once set.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._start_s: float | None = None

    def wait_for(self, time_s: float) -> float:
        """Wait until the frame at ``time_s``, in seconds from the start of the stream, is due; return that moment."""
        now_s = time.monotonic()
        if self._start_s is None or now_s > self._start_s + time_s + _LATEST_S:
            self._start_s = now_s - time_s  # the next segment came late
        self._stop.wait(max(0.0, self._start_s + time_s - now_s))
        return time.monotonic()


class StreamClock:
    """Tells when the frames of a live stream were captured, by the clock of this machine.

    A frame waits in the camera, the network and the socket before it is read, so the time of reading tells nothing of
    its age. Its timestamp does: captured = timestamp + delay. The delay is that of the fastest packet so far, which
    includes what the camera and the network always take. Where the camera sends its wall clock (RTCP sender reports)
    and that clock is set, it is exact.

    Timestamps that jump, because a camera restarts or sets its clock, go on from the frame before by the time that has
    passed here.
    """

    def __init__(self) -> None:
        self.jumps = 0
        """Jumps of the timestamps so far."""
        self.clock_error_s: float | None = None
        """How wrong the wall clock of the camera is, in seconds; None if it is right, or unknown."""
        self.by_camera = False
        """Whether the last time came from the wall clock of the camera."""
        self._last: tuple[float, float] | None = None
        self._origin_s = 0.0
        self._delay_s = float("inf")

    def learn(self, stamp_s: float, arrived_s: float) -> None:
        """Note how long a packet took, before the first call: packets that have waited tell nothing."""
        self._delay_s = min(self._delay_s, arrived_s - stamp_s)

    def __call__(self, stamp_s: float, arrived_s: float, camera_s: float | None = None) -> tuple[float, float]:
        """When the next packet was captured, and its time in the stream, in seconds.

        Args:
            stamp_s: its timestamp.
            arrived_s: ``time.monotonic()`` at which it was read.
            camera_s: ``time.monotonic()`` at which it was captured, according to the wall clock of the camera.
        """
        if self._last is None:
            self._origin_s = stamp_s
            self.learn(stamp_s, arrived_s)
        else:
            last_stamp_s, last_arrived_s = self._last
            passed_s = max(0.0, arrived_s - last_arrived_s)
            is_early = arrived_s - stamp_s < self._delay_s - _JUMP_S and stamp_s - last_stamp_s > passed_s + _JUMP_S
            if stamp_s < last_stamp_s - _JUMP_S or is_early:
                self.jumps += 1
                shift_s = stamp_s - last_stamp_s - passed_s
                self._origin_s += shift_s
                self._delay_s -= shift_s
            self._delay_s = min(self._delay_s + _DRIFT * passed_s, arrived_s - stamp_s)
        self._last = stamp_s, arrived_s
        captured_s = self._correct(stamp_s + self._delay_s, arrived_s, camera_s)
        return captured_s, stamp_s - self._origin_s

    def capture_without_stamp(self, arrived_s: float, camera_s: float | None = None) -> float:
        """When a packet without timestamp was captured: when it arrived, unless the camera says."""
        return self._correct(arrived_s, arrived_s, camera_s)

    def _correct(self, captured_s: float, arrived_s: float, camera_s: float | None) -> float:
        self.by_camera = camera_s is not None and self._is_set(captured_s - camera_s)
        return min(camera_s, arrived_s) if camera_s is not None and self.by_camera else captured_s

    def _is_set(self, delay_s: float) -> bool:
        """Whether the clock of the camera is right; ``delay_s`` is what it says that the fastest packet took."""
        is_set = -_CLOCK_TOLERANCE_S <= delay_s <= _MAX_CAMERA_DELAY_S
        self.clock_error_s = None if is_set else delay_s
        return is_set
