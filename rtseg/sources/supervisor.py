"""Keeps a live source alive: connects again, withholds dead images, and says what happens."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rtseg.errors import SourceDenied, SourceError, SourceStalled
from rtseg.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.health import Health
from rtseg.system.suspension import resumed_s

__all__ = ["StateChange", "SupervisedSource"]

_FIRST_DELAY_S, _LAST_DELAY_S = 0.25, 10.0
_LAST_BLIND_DELAY_S = 1.0
"""Where only opening tells whether the source is back (UDP)."""
_PROBE_EVERY_S = 0.25
_RESUMING_S = 0.02
_GOOD_AFTER_S = 2.0
"""A connection that has lasted so long, in seconds, and delivered frames makes the next wait short again."""
_MAX_CHANGES = 200
"""State changes that are kept for the report; the oldest are left out."""
_MAX_SHOWN = 20
_GAP_S = 1e-3
"""Least time between the last frame before an interruption and the first one after it, in seconds."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """What a live source began to do."""

    state: str
    """``connecting``, ``streaming``, ``stalled``, ``reconnecting`` or ``ended``."""
    reason: str
    at_s: float
    """``time.monotonic()``."""
    clock: str
    """The local time of day, hours:minutes:seconds."""

    def __str__(self) -> str:
        return f"{self.clock} {self.state}" + (f": {self.reason}" if self.reason else "")


class SupervisedSource(Source):
    """Reads ``inner``, and opens it again whenever it fails or ends, if it is live.

    The first connection must succeed, unless ``options.max_downtime_s`` gives it time; later ones are tried again for
    that time, or for ever. Waits double from 0.25 s to 10 s, with jitter. They end early when a server that was away
    answers again. While it is known to be away they last 10 s: an attempt that begins in vain would still wait for its
    own timeout when the server is back.

    An interruption is a gap in ``pts_s``, as long as the time between the captures of the frames around it. Nothing
    is repeated or filled in. Images that are frozen or of one colour for longer than ``options.freeze_timeout_s`` are
    withheld until they change; images older than ``options.max_latency_ms`` are dropped.

    Args:
        inner: opened anew for every connection.
        is_back: whether the server or device of ``inner`` answers; None if that cannot be known without opening it. It
            takes at most two seconds.
    """

    def __init__(self, inner: Source, is_back: Callable[[], bool | None] = lambda: None) -> None:
        self.takes_fps = inner.takes_fps
        super().__init__(inner.name, inner.options)
        self._inner = inner
        self._is_back = is_back
        self.live = inner.live
        self.reconnects = 0
        """Connections after the first one that delivered frames."""
        self._downtime_s = 0.0
        self._too_old = 0
        self._changes: deque[StateChange] = deque(maxlen=_MAX_CHANGES)
        self._started_s = time.monotonic()
        self._health = Health(inner.options.freeze_timeout_s)
        self._last: Frame | None = None
        self._good_s = 0.0

    @property
    def states(self) -> list[StateChange]:
        """Every change of state so far, the oldest first; at most 200."""
        return list(self._changes)

    @property
    def state(self) -> str:
        """See ``Source``."""
        if not (self.live and self._changes):
            return ""
        change = self._changes[-1]
        lasts_s = time.monotonic() - change.at_s
        return f"{change.state} for {lasts_s:.0f} s" + (f": {change.reason}" if change.reason else "")

    def stop(self) -> None:
        """See ``Source``."""
        super().stop()
        self._inner.stop()

    def facts(self) -> dict[str, Any]:
        """What happened to a live source."""
        if not self.live:
            return self._inner.facts()
        states = [
            {"state": each.state, "reason": each.reason, "at_s": round(each.at_s - self._started_s, 3)}
            for each in self._changes
        ]
        return {
            "source_states": states,
            "reconnects": self.reconnects,
            "downtime_s": round(self._downtime_s, 3),
            "frames_too_old": self._too_old,
            "frames_withheld": self._health.withheld,
            **self._inner.facts(),
        }

    def _enter(self, state: str, reason: str = "") -> None:
        """Change the state, unless it is this one for the same reason."""
        last = self._changes[-1] if self._changes else None
        if last is not None and (last.state, last.reason) == (state, reason):
            return
        now = datetime.now().astimezone()
        self._changes.append(StateChange(state, reason, time.monotonic(), now.strftime("%H:%M:%S")))
        self._update()

    def _update(self) -> None:
        """Take over what ``inner`` knows by now."""
        inner = self._inner
        self.live, self.fps, self.frame_count = inner.live, inner.fps, inner.frame_count
        self.damaged = inner.damaged
        self.dropped = inner.dropped + self._too_old + self._health.withheld
        shown = list(self._changes)[-_MAX_SHOWN:] if self.live else []
        lines = [f"{self.name}: {change}" for change in shown if change.state != "ended"]
        self.notice = "\n".join(filter(None, (inner.notice, *lines)))

    def _read(self) -> Iterator[Frame]:
        self._inner.may_drop = self.may_drop
        self._good_s = time.monotonic()
        self._enter("connecting")
        try:
            yield from self._connections()
        finally:
            if self._changes[-1].state != "ended":
                self._enter("ended", "stopped" if self.stopped else "no more frames were wanted")

    def _connections(self) -> Iterator[Frame]:
        attempt = 0
        while not self.stopped:
            connected_s = time.monotonic()
            had_frames = False
            try:
                for frame in self._connection():
                    had_frames = True
                    yield frame
                    self._good_s = time.monotonic()
                if not self._inner.live:
                    self._enter("ended", "end of source")
                    return
                failure: SourceError = SourceError(f"{self.name} has ended")
            except SourceError as error:
                failure = error
            if self.stopped:
                return
            if time.monotonic() - connected_s > _GOOD_AFTER_S and had_frames:
                attempt = 0
            self._after_failure(failure)
            self._wait(attempt, failure)
            attempt += 1

    def _after_failure(self, failure: SourceError) -> None:
        """Enter the next state.

        Raises:
            SourceError: it is not worth another try.
        """
        was_streaming = bool(self._changes) and self._changes[-1].state in ("streaming", "stalled")
        failure = self._excuse(failure)
        if not self._inner.live or time.monotonic() - self._good_s >= self._max_downtime_s():
            self._enter("ended", str(failure))
            raise failure
        if was_streaming and isinstance(failure, SourceStalled):
            self._enter("stalled", str(failure))
        self._enter("reconnecting", str(failure))

    def _excuse(self, failure: SourceError) -> SourceError:
        """The error, or another one where this process was suspended meanwhile: that is no stall of the source."""
        self._stop.wait(_RESUMING_S)  # for the signal handler, which runs on the main thread
        if not self._inner.live or resumed_s() < self._good_s:
            return failure
        self._good_s = resumed_s()
        return SourceError(f"{self.name} was not read while this process was suspended")

    def _max_downtime_s(self) -> float:
        given_s = self.options.max_downtime_s
        if given_s is None:
            return float("inf") if self._last is not None else 0.0
        return given_s

    def _wait(self, attempt: int, failure: SourceError) -> None:
        """Wait before the next connection."""
        if attempt == 0 and isinstance(failure, SourceStalled) and failure.is_back:
            return
        longest_s = _LAST_DELAY_S if isinstance(failure, SourceDenied) else _FIRST_DELAY_S * 2.0 ** min(attempt, 20)
        now_s = time.monotonic()
        until_s = now_s + min(_LAST_DELAY_S, longest_s) * random.uniform(0.5, 1.0)
        last_s = max(self._good_s + self._max_downtime_s(), now_s)
        until_s = min(until_s, last_s)
        was_away = False
        while not self.stopped and time.monotonic() < until_s:
            asked_s = time.monotonic()
            is_back = self._is_back()
            if is_back and was_away:
                break
            if is_back is None:
                until_s = min(until_s, now_s + _LAST_BLIND_DELAY_S)
            elif not is_back:
                was_away, until_s = True, min(now_s + _LAST_DELAY_S, last_s)
            self._stop.wait(max(0.0, min(asked_s + _PROBE_EVERY_S, until_s) - time.monotonic()))

    def _connection(self) -> Iterator[Frame]:
        """Yield the good frames of one connection, on the timeline of the run."""
        before, first = self._last, None
        frames = self._inner._read()
        shift_s, index_offset = 0.0, 0
        try:
            for frame in frames:
                if self.stopped:
                    return
                if not self._inner.live:
                    if self._last is None:
                        self._last = frame
                        self._update()
                    yield frame
                    continue
                if first is None:
                    if before is not None and frame.captured_s <= before.captured_s:
                        self._too_old += 1  # a server that repeats what it has sent before
                        continue
                    first = frame
                    self._count_connection(before, frame)
                    if before is not None:
                        gap_s = max(_GAP_S, frame.captured_s - before.captured_s)
                        shift_s, index_offset = before.pts_s + gap_s - frame.pts_s, before.index + 1 - frame.index
                placed = replace(frame, pts_s=frame.pts_s + shift_s, index=frame.index + index_offset)
                if self._check(placed):
                    self._last = placed
                    yield placed
        finally:
            self._close(frames)
            self._update()

    def _count_connection(self, before: Frame | None, first: Frame) -> None:
        if before is not None:
            self.reconnects += 1
            self._downtime_s += max(0.0, time.monotonic() - self._good_s)
        self._enter("streaming", self._health.describe(first, self._inner.fps))

    def _check(self, frame: Frame) -> bool:
        """Whether to deliver ``frame``."""
        if not self._inner.live:
            return True
        limit_ms = self.options.max_latency_ms
        age_ms = 1e3 * (time.monotonic() - frame.captured_s)
        fault = self._health.check(frame, self._inner.fps)
        if not fault and limit_ms is not None and self.may_drop and age_ms > limit_ms:
            self._too_old += 1
            if time.monotonic() - self._good_s > self.options.read_timeout_s:
                self._enter("stalled", f"all images are older than --max-latency {limit_ms:g} ms")
            self._update()
            return False
        if fault:
            self._enter("stalled", fault)
        else:
            self._enter("streaming", self._health.description)
        self._update()
        return not fault
