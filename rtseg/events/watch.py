"""Follows all rules and the state of the source through a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import uuid4

from rtseg.events.event import Event, wall_time
from rtseg.events.measure import measure
from rtseg.events.rule import Rule
from rtseg.events.trigger import Change, Trigger, event_of
from rtseg.frame import Frame, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.regions.masks import RegionMask, Regions
from rtseg.sources.supervisor import StateChange

__all__ = ["EventWatch"]

_OFFLINE: Final = ("stalled", "reconnecting", "ended")

Snapshot = Callable[[Frame, Labels, str], bytes | None]
"""A frame, its labels and the name of a region, or an empty text -> the image of an event, as JPEG."""


@dataclass(slots=True, eq=False)
class _Watched:
    """A rule with what is known about it."""

    rule: Rule
    class_ids: tuple[int, ...]
    trigger: Trigger
    id: str = ""
    """Of the active event."""


class EventWatch:
    """Turns the labels of each frame, and the states of a live source, into events. Use it on one thread.

    Args:
        rules: what to watch for.
        spec: of the model that makes the labels.
        regions: of the run; they may be replaced at any time.
        source: name of the source.
        states: returns the changes of state of a live source so far; empty for others.
        snapshot: makes the image of an event that begins.

    Raises:
        OptionError: a rule names a class that the model lacks, or a region that does not exist.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        spec: ModelSpec,
        regions: Regions,
        *,
        source: str,
        states: Callable[[], Sequence[StateChange]] = lambda: (),
        snapshot: Snapshot = lambda frame, labels, region: None,
    ) -> None:
        for rule in rules:
            rule.check_region(regions.names)
        self._watched = [_Watched(rule, rule.class_ids(spec.name, spec.classes), Trigger(rule)) for rule in rules]
        self._regions = regions
        self._source = source
        self._states = states
        self._snapshot = snapshot
        self._last_state: StateChange | None = None
        self._is_online: bool | None = None
        """None before a live source has delivered a frame, and for a file."""
        self._offline_at_s = -float("inf")
        self._last: Frame | None = None

    def frame(self, frame: Frame, labels: Labels) -> list[Event]:
        """The events of one frame.

        Args:
            frame: in the order of the source.
            labels: class IDs, uint8 (H, W), in the size of the frame.
        """
        events = self.poll()
        if self._is_online is False or frame.captured_s <= self._offline_at_s:
            return events  # it was still on its way when the source went offline
        self._last = frame
        masks = self._regions.named(labels.shape)
        for watched in self._watched:
            event = self._follow(watched, frame, labels, masks)
            if event is not None:
                events.append(event)
        return events

    def _follow(self, watched: _Watched, frame: Frame, labels: Labels, masks: dict[str, RegionMask]) -> Event | None:
        rule = watched.rule
        if rule.region and rule.region not in masks:
            return self._interrupt(watched, f"there is no region {rule.region} any more")
        part = masks[rule.region].crop(labels) if rule.region else labels
        value = measure(rule, watched.class_ids, part, labels.size)
        if value is None:  # no labels yet, or not any more
            return None
        change = watched.trigger.update(value, frame.pts_s)
        if change is None:
            return None
        image = self._snapshot(frame, labels, rule.region) if change.begins else None
        return self._event(watched, change, frame, value=value, snapshot=image)

    def poll(self) -> list[Event]:
        """The events of the source since the last call, also while no frame comes."""
        return [event for change in self._new_states() for event in self._on_state(change)]

    def end(self) -> list[Event]:
        """The events of the end of the run."""
        events = [*self.poll(), *self._interrupt_all("the run ended")]
        if self._is_online:
            events.append(self._source_event("offline", "the run ended", monotonic()))
        return events

    def _new_states(self) -> list[StateChange]:
        states = list(self._states())
        start = next((at + 1 for at in reversed(range(len(states))) if states[at] is self._last_state), 0)
        if states:
            self._last_state = states[-1]
        return states[start:]

    def _on_state(self, change: StateChange) -> Iterator[Event]:
        if change.state == "streaming" and not self._is_online:
            self._is_online = True
            yield self._source_event("online", "", change.at_s)
        elif change.state in _OFFLINE and self._is_online:
            self._is_online, self._offline_at_s = False, change.at_s
            yield from self._interrupt_all("the run ended" if change.state == "ended" else "the source is offline")
            reason = f"{change.state}: {change.reason}" if change.reason else change.state
            yield self._source_event("offline", reason, change.at_s)

    def _interrupt_all(self, reason: str) -> Iterator[Event]:
        events = (self._interrupt(watched, reason) for watched in self._watched)
        yield from (event for event in events if event is not None)

    def _interrupt(self, watched: _Watched, reason: str) -> Event | None:
        change = watched.trigger.interrupt()
        if change is None or self._last is None:
            return None
        return self._event(watched, change, self._last, reason=reason)

    def _event(
        self,
        watched: _Watched,
        change: Change,
        frame: Frame,
        *,
        value: float | None = None,
        reason: str = "",
        snapshot: bytes | None = None,
    ) -> Event:
        rule = watched.rule
        if change.begins:
            watched.id = uuid4().hex[:12]
        return event_of(
            rule,
            change,
            source=self._source,
            time=wall_time(frame.captured_s),
            id=watched.id,
            index=frame.index,
            pts_s=frame.pts_s,
            value=value,
            reason=reason,
            snapshot=snapshot,
        )

    def _source_event(self, kind: str, reason: str, at_s: float) -> Event:
        pts_s = self._last.pts_s if self._last is not None else None
        return Event(kind, self._source, wall_time(at_s), reason=reason, pts_s=pts_s)
