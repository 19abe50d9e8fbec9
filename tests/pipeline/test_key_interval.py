from __future__ import annotations

import pytest

from rtseg.pipeline.key_interval import KeyInterval


def settle(target_fps: float, network_s: float, others_s: float) -> tuple[KeyInterval, float]:
    """The interval after 300 frames, each of which takes network / K + others, and the last frame rate."""
    interval, now_s = KeyInterval(target_fps), 0.0
    frame_s = 1.0
    for _ in range(300):
        frame_s = network_s / interval.frames + others_s
        now_s += frame_s
        interval.count(now_s)
    return interval, 1 / frame_s


@pytest.mark.parametrize(("target_fps", "expected"), [(10, 1), (20, 2), (30, 4), (40, 6), (50, 8)])
def test_the_largest_rate_of_the_network_that_reaches_the_target_is_chosen(target_fps: float, expected: int) -> None:
    interval, fps = settle(target_fps, network_s=0.071, others_s=0.010)
    assert interval.frames == expected
    assert fps >= target_fps


def test_a_quick_network_runs_on_every_frame() -> None:
    assert settle(30, network_s=0.005, others_s=0.010)[0].frames == 1


def test_a_target_that_the_other_stages_cannot_reach_carries_labels_at_most_twelve_frames() -> None:
    assert settle(200, network_s=0.071, others_s=0.010)[0].frames == 12


def test_the_interval_follows_when_the_other_stages_become_slower_and_quicker() -> None:
    interval, now_s, intervals = KeyInterval(20), 0.0, []
    for others_s in (0.010, 0.030, 0.010):
        for _ in range(200):
            now_s += 0.060 / interval.frames + others_s
            interval.count(now_s)
        intervals.append(interval.frames)
    assert intervals == [2, 4, 2]
