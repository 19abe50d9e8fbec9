"""From the value of each frame to the beginning and the end of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rtseg.events.event import Event
from rtseg.events.rule import Rule

__all__ = ["Change", "Trigger", "event_of"]

_SAME_S: Final = 1e-6
"""Times that differ by less are equal: timestamps are fractions, and floats only approximate them."""


@dataclass(frozen=True, slots=True)
class Change:
    """An event began or ended."""

    begins: bool
    at_s: float
    """When the condition began to hold, or stopped to, in the time of the source."""
    duration_s: float | None
    """From the one to the other; None at the beginning."""
    peak: float
    """The most extreme value so far."""


class Trigger:
    """Follows one rule through the frames of a source, in order."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.is_active = False
        self._since_s: float | None = None
        """When the condition began to hold."""
        self._quiet_since_s: float | None = None
        """While an event is active: when the condition stopped to hold."""
        self._ended_s: float | None = None
        self._last_s = 0.0
        self._peak = 0.0

    def update(self, value: float, pts_s: float) -> Change | None:
        """Take the value of the frame at ``pts_s`` seconds; return what it changes."""
        self._last_s = pts_s
        holds = self.rule.holds(value, active=self.is_active)
        return self._while_active(value, holds, pts_s) if self.is_active else self._while_idle(value, holds, pts_s)

    def _while_idle(self, value: float, holds: bool, pts_s: float) -> Change | None:
        if not holds:
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s, self._peak = pts_s, value
        self._peak = self._extreme(value)
        is_cool = self._ended_s is None or pts_s - self._ended_s >= self.rule.cooldown_s - _SAME_S
        if not is_cool or pts_s - self._since_s < self.rule.for_s - _SAME_S:
            return None
        self.is_active = True
        return Change(True, self._since_s, None, self._peak)

    def _while_active(self, value: float, holds: bool, pts_s: float) -> Change | None:
        if holds:
            self._quiet_since_s = None
            self._peak = self._extreme(value)
            return None
        if self._quiet_since_s is None:
            self._quiet_since_s = pts_s
        if pts_s - self._quiet_since_s < self.rule.quiet_s - _SAME_S:
            return None
        return self._end(self._quiet_since_s)

    def interrupt(self) -> Change | None:
        """The frames end, or nothing is known until the next one: end an active event at the last frame."""
        if self.is_active:
            return self._end(self._last_s if self._quiet_since_s is None else self._quiet_since_s)
        self._since_s = None
        return None

    def _end(self, at_s: float) -> Change:
        assert self._since_s is not None, "an active event has begun"
        change = Change(False, at_s, at_s - self._since_s, self._peak)
        self.is_active, self._since_s, self._quiet_since_s = False, None, None
        self._ended_s = at_s
        return change

    def _extreme(self, value: float) -> float:
        return max(self._peak, value) if self.rule.operator.startswith(">") else min(self._peak, value)


def event_of(rule: Rule, change: Change, **facts: Any) -> Event:
    """Return the event that ``change`` of ``rule`` is; ``facts``: the other fields of ``Event``."""
    return Event(
        kind="start" if change.begins else "end",
        rule=rule.name,
        text=rule.text,
        region=rule.region,
        at_s=change.at_s,
        duration_s=change.duration_s,
        unit=rule.unit,
        peak=change.peak,
        **facts,
    )
