"""Watches for events, and sends them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from rtseg.errors import SinkError
from rtseg.events.event import Event
from rtseg.events.event_file import EventFile
from rtseg.events.outbox import Outbox
from rtseg.events.watch import EventWatch
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink

__all__ = ["EventsSink"]

_CLOSE_S: Final = 1.0
"""How long ``close`` waits for events that have yet to be sent. A run must end within two seconds."""
_MAX_LINES: Final = 20


class EventsSink(Sink):
    """Evaluates the rules on each frame. Its own work is that alone: each destination but files has its own thread.

    A file that fails ends alone while other destinations go on; ``close`` raises its error.

    Args:
        watch: makes the events.
        files: get each event at once.
        outboxes: send the events over the network.
        notices: lines about the destinations.
    """

    kind = "events"
    needs_rendered = False

    def __init__(
        self,
        watch: EventWatch,
        files: Sequence[EventFile] = (),
        outboxes: Sequence[Outbox] = (),
        notices: Sequence[str] = (),
    ) -> None:
        self.fired: Counter[str] = Counter()
        """How often each rule began, and how often the source went ``online`` and ``offline``."""
        self.recent: deque[tuple[int, Event]] = deque(maxlen=_MAX_LINES)
        """The last events, each with its number from 0 on, and with its snapshot; the oldest first."""
        self._numbers = count()
        self._watch = watch
        self._files = list(files)
        self._outboxes = list(outboxes)
        self._known_notices = list(notices)
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._failures: list[SinkError] = []
        self._is_closed = self._is_failed = False
        names = [*(file.name for file in self._files), *(outbox.name for outbox in self._outboxes)]
        self.name = f"events to {', '.join(names)}".replace("to events ", "to ") if names else "events"

    @property
    def notice(self) -> str:
        """The last events, and what is wrong with the destinations."""
        files = [file.notice for file in self._files if file.notice]
        boxes = [line for outbox in self._outboxes for line in outbox.notices]
        failures = [] if self._is_failed else [str(failure) for failure in self._failures]
        return "\n".join((*self._known_notices, *files, *boxes, *failures, *self._lines))

    def facts(self) -> dict[str, Any]:
        """See ``Sink``."""
        boxes = {outbox.name: {"sent": outbox.sent, "dropped": outbox.dropped} for outbox in self._outboxes}
        return {"events": dict(self.fired)} | ({"events_sent": boxes} if boxes else {})

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Evaluate the rules on one frame; see ``Sink``."""
        self._send(self._watch.frame(frame, labels))
        self.written += 1
        if self._failures and not (self._outboxes or self._files):
            self._is_failed = True
            raise self._failures[-1]

    def idle(self) -> None:
        """Look for changes of the source; see ``Sink``."""
        self._send(self._watch.poll())

    def _send(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind != "end":
                self.fired[event.rule or event.kind] += 1
            self._lines.append(str(event))
            self.recent.append((next(self._numbers), event))
            for outbox in self._outboxes:
                outbox.put(event)
            for file in list(self._files):
                try:
                    file.write(event)
                except SinkError as error:
                    self._files.remove(file)
                    self._failures.append(error)

    def close(self) -> None:
        """Send what is left, within about a second; see ``Sink``."""
        if self._is_closed:
            return
        self._is_closed = True
        self._send(self._watch.end())
        for outbox in self._outboxes:
            outbox.begin_close(_CLOSE_S)
        for outbox in self._outboxes:
            outbox.close(_CLOSE_S)
        first = None if self._is_failed else next(iter(self._failures), None)
        for file in self._files:
            try:
                file.close()
                self._known_notices.append(f"wrote {file.name}, {file.written} lines")
            except SinkError as error:
                first = first or error
        if first is not None:
            raise first
