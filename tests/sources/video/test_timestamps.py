from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from rtseg.sources.video.timestamps import FrameClock, stamp_arrivals


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


def test_packets_of_a_live_stream_get_their_time_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 12.0

    def arrive() -> Iterator[int]:
        """Three packets that are there already, then one every 0.2 s."""
        nonlocal now_s
        yield from range(3)
        for packet in range(3, 6):
            now_s += 0.2
            yield packet

    monkeypatch.setattr("rtseg.sources.video.timestamps.time", SimpleNamespace(monotonic=lambda: now_s))
    stamped = list(stamp_arrivals(arrive(), started_s=11.4))
    assert [packet for packet, _ in stamped] == list(range(6))
    assert [stamp_s for _, stamp_s in stamped] == pytest.approx([11.4, 11.6, 11.8, 12.2, 12.4, 12.6])


def test_a_live_stream_may_end_before_a_packet_arrives() -> None:
    assert not list(stamp_arrivals(iter(()), started_s=0.0))
