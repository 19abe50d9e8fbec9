"""Sends events on a thread of its own, so that no destination can delay a run."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections import deque
from threading import Condition, Thread
from typing import Final

from rtseg.events.event import Event

__all__ = ["Destination", "Outbox", "SendFailed"]

_CAPACITY: Final = 256
"""Events that wait. With a snapshot each, of about 100 kB, they take some 25 MB."""
_FIRST_DELAY_S, _LAST_DELAY_S = 0.5, 30.0
_MAX_NOTICES: Final = 10
_ABORT_S, _SHORTEST_S = 0.4, 0.05
"""How long ``close`` waits for the thread after it has ended the calls that wait."""


class SendFailed(Exception):
    """An event could not be sent.

    Args:
        text: what is wrong, without secrets.
        final: whether another try would fail too.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Destination(ABC):
    """Where an outbox sends events. All methods but ``abort`` are called on the thread of the outbox."""

    name: str
    """Used in messages; without secrets."""

    def open(self) -> None:  # noqa: B027 - most have nothing to open
        """Connect, if the destination keeps a connection. Called again until it returns.

        Raises:
            SendFailed: it does not answer.
        """

    @abstractmethod
    def send(self, event: Event) -> None:
        """Send one event; takes at most about ten seconds.

        Raises:
            SendFailed: it was not accepted.
        """

    def abort(self) -> None:  # noqa: B027 - see above
        """End a call of ``open`` or ``send`` that waits. Called on another thread."""

    def close(self) -> None:  # noqa: B027 - see above
        """Say goodbye and close the connection. Called once, even if ``open`` has failed."""


class Outbox:
    """A bounded queue in front of a destination. ``put`` never waits.

    An event that is not accepted is tried again after 0.5 s to 30 s, with jitter; meanwhile the oldest of more than 256
    events are dropped and counted.
    """

    def __init__(self, destination: Destination) -> None:
        self.name = destination.name
        self.sent = 0
        self.dropped = 0
        """Events that were refused, or for which there was no room or no time."""
        self._destination = destination
        self._events: deque[Event] = deque()
        self._changed = Condition()
        self._closing_at_s: float | None = None
        self._notices: deque[str] = deque(maxlen=_MAX_NOTICES)
        self._thread = Thread(target=self._run, name="rtseg-events", daemon=True)
        self._thread.start()

    @property
    def notices(self) -> list[str]:
        """What went wrong, the latest last: lines without secrets."""
        return list(self._notices)

    def put(self, event: Event) -> None:
        """Send ``event`` later."""
        with self._changed:
            if self._closing_at_s is not None:
                return
            if len(self._events) >= _CAPACITY:
                self._events.popleft()
                self.dropped += 1
            self._events.append(event)
            self._changed.notify_all()

    def begin_close(self, timeout_s: float) -> None:
        """Take no more events, and give up those that are not sent within ``timeout_s`` seconds."""
        with self._changed:
            if self._closing_at_s is None:
                self._closing_at_s = time.monotonic() + timeout_s
                self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most ``timeout_s`` seconds, and end the thread. A second call does nothing.

        The thread ends a little later where even the operating system does not let it go, as in a look-up of a name.
        """
        self.begin_close(timeout_s)
        assert self._closing_at_s is not None, "it was set above"
        self._thread.join(max(0.0, self._closing_at_s - time.monotonic()))
        if self._thread.is_alive():
            self._destination.abort()
            self._thread.join(max(_SHORTEST_S, self._closing_at_s + _ABORT_S - time.monotonic()))
        with self._changed:
            if self._events:
                self.dropped += len(self._events)
                self._note(f"{len(self._events)} events were not sent before the end")
                self._events.clear()

    def _run(self) -> None:
        is_open, attempt = False, 0
        try:
            while (event := self._next(is_open=is_open)) is not None or not (is_open or self._is_closing()):
                try:
                    if not is_open:
                        self._destination.open()
                        is_open = True
                    elif event is not None:
                        self._destination.send(event)
                        self._take(event, is_sent=True)
                    attempt = 0
                except SendFailed as failure:
                    if failure.final and is_open and event is not None:
                        self._take(event, is_sent=False)
                        self._note(f"{failure}: the event is dropped")
                    else:
                        self._note(f"{failure}: trying again")
                        self._wait(attempt)
                        attempt += 1
        finally:
            self._destination.close()

    def _is_closing(self) -> bool:
        return self._closing_at_s is not None

    def _is_over(self) -> bool:
        return self._closing_at_s is not None and time.monotonic() >= self._closing_at_s

    def _next(self, *, is_open: bool) -> Event | None:
        """The oldest event, or None if the outbox is closing or has yet to be opened."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._is_closing() or not is_open)
            return self._events[0] if self._events and not self._is_over() else None

    def _take(self, event: Event, *, is_sent: bool) -> None:
        with self._changed:
            if is_sent:
                self.sent += 1
            else:
                self.dropped += 1
            if self._events and self._events[0] is event:
                self._events.popleft()
            else:
                self.dropped -= 1  # ``put`` has dropped it meanwhile

    def _wait(self, attempt: int) -> None:
        longest_s = min(_LAST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(attempt, 10))
        until_s = time.monotonic() + longest_s * random.uniform(0.5, 1.0)
        with self._changed:
            while not self._is_over() and (left_s := until_s - time.monotonic()) > 0:
                if self._closing_at_s is not None:
                    left_s = min(left_s, self._closing_at_s - time.monotonic())
                self._changed.wait(max(0.0, left_s))

    def _note(self, text: str) -> None:
        line = f"{self.name}: {text}"
        if line not in self._notices:
            self._notices.append(line)
