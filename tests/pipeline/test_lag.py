from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers.doubles import make_image

from rtseg.frame import Frame
from rtseg.pipeline.lag import LagMeter


def warnings(monkeypatch: pytest.MonkeyPatch, times_s: list[tuple[float, float]]) -> list[float]:
    """The times at which frames, given as (time shown, time in the source), caused a warning."""
    meter, warned = LagMeter(), []
    for number, (shown_s, pts_s) in enumerate(times_s):
        clock = SimpleNamespace(monotonic=lambda shown_s=shown_s: shown_s)
        monkeypatch.setattr("rtseg.pipeline.lag.time", clock)  # not that of other modules
        if meter.add(Frame(make_image(number), number, pts_s, shown_s)):
            warned.append(shown_s)
    return warned


def test_a_run_at_the_speed_of_its_source_never_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    jitter = [0.0, 0.3, 0.05, 0.9, 0.2]
    times = [(100 + n / 25 + jitter[n % 5], n / 25) for n in range(5000)]
    assert warnings(monkeypatch, times) == []


def test_clocks_that_differ_a_little_are_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [(100 + 1.0005 * n, float(n)) for n in range(8 * 3600)]
    assert warnings(monkeypatch, hours) == []


def test_a_slow_run_warns_at_three_seconds_and_again_when_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 of 30 frames per second are processed: after t seconds the image is 2/3 t old.
    times = [(n / 10, n / 30) for n in range(300)]
    assert warnings(monkeypatch, times) == pytest.approx([4.6, 9.1, 18.2], abs=0.3)


def test_a_pause_of_the_source_makes_its_images_no_older(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [(n / 25 + (60 if n > 50 else 0) + (60 if n > 90 else 0), n / 25) for n in range(200)]
    assert warnings(monkeypatch, times) == []


def test_a_run_that_catches_up_is_not_warned_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [(n / 10, n / 30) for n in range(40)]
    fast = [(slow[-1][0] + n / 90, slow[-1][1] + n / 30) for n in range(1, 400)]
    assert warnings(monkeypatch, slow + fast) == []
