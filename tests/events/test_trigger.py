from __future__ import annotations

import pytest

from rtseg.events.rule import parse_rule
from rtseg.events.trigger import Change, Trigger


def follow(text: str, values: list[float], *, fps: float = 10.0) -> list[tuple[int, Change]]:
    """The changes, with the numbers of their frames."""
    trigger = Trigger(parse_rule(text))
    changes = [(number, trigger.update(value, number / fps)) for number, value in enumerate(values)]
    return [(number, change) for number, change in changes if change is not None]


def test_an_event_begins_once_the_condition_has_held_for_its_time() -> None:
    ((number, change),) = follow("Car > 2% for 1s", [0] * 5 + [3] * 20)
    assert (number, change.begins, change.at_s) == (15, True, 0.5)


def test_a_condition_that_is_interrupted_begins_anew() -> None:
    assert follow("Car > 2% for 1s", ([3] * 10 + [0]) * 4) == []


def test_an_event_ends_once_the_condition_has_not_held_for_as_long_with_its_duration_and_peak() -> None:
    begin, (number, change) = follow("Car > 2% for 1s", [3] * 20 + [9] + [0] * 15)
    assert begin[1].begins
    assert number == 31
    assert not change.begins
    assert (change.at_s, change.duration_s, change.peak) == (pytest.approx(2.1), pytest.approx(2.1), 9)


def test_a_value_that_flickers_around_the_threshold_is_one_event() -> None:
    changes = follow("Car > 2%", [3, 1] * 50 + [0] * 10)
    assert [change.begins for _, change in changes] == [True, False]


def test_until_is_the_threshold_for_the_end() -> None:
    changes = follow("Car > 2% until 1", [3] * 5 + [1.5] * 30 + [0.5] * 10)
    assert [(number, change.begins) for number, change in changes] == [(0, True), (40, False)]


def test_after_an_event_the_next_one_waits_for_the_cooldown() -> None:
    changes = follow("Car > 2% cooldown 3s", [3] * 5 + [0] * 6 + [3] * 40)
    assert [(number, change.begins) for number, change in changes] == [(0, True), (10, False), (35, True)]


def test_less_than_has_its_lowest_value_as_peak() -> None:
    (_, begin), (_, end) = follow("Road < 50%", [40, 20, 30, *[60] * 6])
    assert (begin.peak, end.peak) == (40, 20)


def test_an_interruption_ends_an_active_event_at_the_last_frame_and_forgets_a_pending_one() -> None:
    trigger = Trigger(parse_rule("Car > 2% for 1s"))
    for number in range(9):
        assert trigger.update(3, number / 10) is None
    assert trigger.interrupt() is None
    assert trigger.update(3, 5.0) is None, "the gap was counted as if the condition had held"
    assert trigger.update(3, 6.0) is not None
    change = trigger.interrupt()
    assert change is not None
    assert (change.begins, change.at_s, change.duration_s) == (False, 6.0, 1.0)
    assert trigger.interrupt() is None
