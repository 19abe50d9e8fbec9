from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from helpers.doubles import wide_spec

from rtseg.errors import OptionError
from rtseg.events.event import Event
from rtseg.events.rule import parse_rules
from rtseg.events.watch import EventWatch
from rtseg.frame import Frame
from rtseg.regions import parse_region
from rtseg.regions.masks import Regions
from rtseg.sources.supervisor import StateChange

SIZE = (10, 20)


def frame_at(number: int) -> Frame:
    return Frame(np.zeros((*SIZE, 3), np.uint8), number, number / 10, time.monotonic())


def labels_with(share: float, class_id: int = 1) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels.reshape(-1)[: round(share * labels.size)] = class_id
    return labels


def watch(*rules: str, regions: Regions | None = None, **more: object) -> EventWatch:
    return EventWatch(parse_rules(rules), wide_spec(), regions or Regions(), source="cam", **more)  # type: ignore[arg-type]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_an_event_has_the_facts_of_its_frame_and_the_same_id_at_both_ends() -> None:
    watching = watch("x: class 1 > 10%", snapshot=lambda frame, labels, region: b"jpeg")
    events = [event for n in range(10) for event in watching.frame(frame_at(n), labels_with(0.25 if n < 3 else 0))]
    begin, end = events
    assert (begin.kind, begin.rule, begin.index, begin.pts_s, begin.value) == ("start", "x", 0, 0.0, 25.0)
    assert (end.kind, end.index, end.at_s, end.duration_s) == ("end", 8, 0.3, pytest.approx(0.3))
    assert begin.id == end.id != ""
    assert (begin.snapshot, end.snapshot) == (b"jpeg", None)


def test_a_region_limits_what_is_measured() -> None:
    regions = Regions([parse_region("left=0,0,10,10")])
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 10:] = 1
    watching = watch("class 1 > 10% in left", "class 1 > 40%", regions=regions)
    assert [event.rule for event in watching.frame(frame_at(0), labels)] == ["class-1"]


def test_frames_without_labels_say_nothing() -> None:
    watching = watch("class 0 < 50%")
    void = np.full(SIZE, 255, np.uint8)
    assert watching.frame(frame_at(0), void) == []
    assert kinds(watching.frame(frame_at(1), labels_with(1.0))) == ["start"]


def test_a_region_that_is_removed_ends_its_event() -> None:
    regions = Regions([parse_region("left=0,0,10,10")])
    watching = watch("class 0 > 10% in left", regions=regions)
    assert kinds(watching.frame(frame_at(0), labels_with(0))) == ["start"]
    regions.replace([])
    (end,) = watching.frame(frame_at(1), labels_with(0))
    assert (end.kind, end.reason) == ("end", "there is no region left any more")
    assert watching.frame(frame_at(2), labels_with(0)) == []


def test_a_wrong_class_or_region_is_refused() -> None:
    with pytest.raises(OptionError, match="did you mean class 10"):
        watch("clas 10 > 1%")
    with pytest.raises(OptionError, match="no region 'gate'"):
        watch("class 1 > 1% in gate")


class TestStates:
    @pytest.fixture
    def states(self) -> list[StateChange]:
        return []

    @pytest.fixture
    def enter(self, states: list[StateChange]) -> Callable[..., None]:
        return lambda state, reason="": states.append(StateChange(state, reason, time.monotonic(), "00:00:00"))

    def test_a_source_goes_online_and_offline_once_each(
        self, states: list[StateChange], enter: Callable[..., None]
    ) -> None:
        watching = watch(states=lambda: states)
        for state in ("connecting", "streaming", "stalled", "reconnecting", "reconnecting", "streaming", "streaming"):
            enter(state, "why")
        events = watching.poll()
        assert kinds(events) == ["online", "offline", "online"]
        assert events[1].reason == "stalled: why"
        assert watching.poll() == []

    def test_an_event_ends_when_the_source_goes_offline(
        self, states: list[StateChange], enter: Callable[..., None]
    ) -> None:
        watching = watch("x: class 1 > 10%", states=lambda: states)
        enter("streaming")
        assert kinds(watching.frame(frame_at(0), labels_with(0.5))) == ["online", "start"]
        enter("stalled", "no frame for 2 s")
        end, offline = watching.poll()
        assert (end.kind, end.reason, offline.kind) == ("end", "the source is offline", "offline")

    def test_frames_that_were_still_on_their_way_begin_no_event(
        self, states: list[StateChange], enter: Callable[..., None]
    ) -> None:
        watching = watch("x: class 1 > 10%", states=lambda: states)
        enter("streaming")
        late = [frame_at(1), frame_at(2)]
        enter("reconnecting")
        assert kinds(watching.frame(late[0], labels_with(0.5))) == ["online", "offline"]
        enter("streaming")
        assert kinds(watching.frame(late[1], labels_with(0.5))) == ["online"]
        assert kinds(watching.frame(frame_at(3), labels_with(0.5))) == ["start"]

    def test_the_end_of_the_run_ends_events_and_says_that_the_source_is_offline(
        self, states: list[StateChange], enter: Callable[..., None]
    ) -> None:
        watching = watch("x: class 1 > 10%", states=lambda: states)
        enter("streaming")
        watching.frame(frame_at(0), labels_with(0.5))
        assert [(event.kind, event.reason) for event in watching.end()] == [
            ("end", "the run ended"),
            ("offline", "the run ended"),
        ]

    def test_of_a_long_history_only_the_new_part_counts(
        self, states: list[StateChange], enter: Callable[..., None]
    ) -> None:
        watching = watch(states=lambda: states[-3:])
        enter("streaming")
        assert kinds(watching.poll()) == ["online"]
        for _ in range(5):
            enter("reconnecting")
            enter("streaming")
        assert kinds(watching.poll()) == ["offline", "online"]
