from __future__ import annotations

import pytest

from rtseg.sources.video.timestamps import FrameClock


def times(stamps: list[float | None], origin_s: float | None = None) -> list[float]:
    clock = FrameClock(origin_s, 0.1)
    return [round(clock(stamp), 6) for stamp in stamps]


def test_the_first_frame_is_the_default_origin() -> None:
    assert times([7.0, 7.5]) == [0.0, 0.5]
    assert times([7.0, 7.5], origin_s=6.5) == [0.5, 1.0]


def test_a_missing_timestamp_is_one_frame_after_the_previous_one() -> None:
    assert times([None, None, None]) == [0.0, 0.1, 0.2]
    assert times([3.0, None, 3.2]) == [0.0, 0.1, 0.2]


def test_a_slightly_early_timestamp_becomes_the_previous_one() -> None:
    assert times([1.0, 1.3, 1.2, 1.4]) == [0.0, 0.3, 0.3, 0.4]


def test_a_frame_before_the_start_of_the_stream_is_at_its_start() -> None:
    assert times([0.9, 1.0, 1.1], origin_s=1.0) == [0.0, 0.0, 0.1]


@pytest.mark.parametrize("restart", [0.0, 5.0])
def test_times_continue_after_the_clock_was_reset(restart: float) -> None:
    assert times([95443.6, 95443.7, restart, restart + 0.1]) == [0.0, 0.1, 0.2, 0.3]
