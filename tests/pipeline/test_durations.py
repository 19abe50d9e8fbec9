from __future__ import annotations

import numpy as np
import pytest

from rtseg.pipeline.durations import Durations


def durations(samples: np.ndarray) -> Durations:
    counted = Durations()
    for seconds in samples:
        counted.add(float(seconds))
    return counted


@pytest.mark.parametrize("count", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("percent", [0, 25, 50, 95, 99, 100])
def test_a_percentile_is_within_one_percent_of_numpys(count: int, percent: float) -> None:
    samples = np.random.default_rng(count).lognormal(-4, 1.5, count)
    wanted = np.percentile(samples, percent, method="inverted_cdf")
    assert durations(samples).percentile_s(percent) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("seconds", [2e-7, 1e-3, 0.04, 17.0, 5e4])
def test_a_percentile_of_equal_durations_is_that_duration_over_eleven_powers_of_ten(seconds: float) -> None:
    assert durations(np.full(9, seconds)).percentile_s(50) == pytest.approx(seconds, rel=0.01)


def test_no_percentile_is_above_the_maximum() -> None:
    counted = durations(np.random.default_rng(0).uniform(0.01, 0.02, 100))
    assert counted.percentile_s(100) <= counted.max_s


def test_mean_count_and_maximum_are_exact() -> None:
    counted = durations(np.array([0.1, 0.2, 0.6]))
    assert counted.count == 3
    assert counted.max_s == 0.6
    assert counted.summary()["mean_ms"] == pytest.approx(300)
    assert counted.summary()["max_ms"] == pytest.approx(600)


def test_a_summary_has_the_figures_of_a_report_in_milliseconds() -> None:
    samples = np.linspace(0.01, 0.1, 1000)
    summary = durations(samples).summary()
    assert set(summary) == {"mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"}
    for percent in (50, 95, 99):
        wanted = 1e3 * np.percentile(samples, percent, method="inverted_cdf")
        assert summary[f"p{percent}_ms"] == pytest.approx(wanted, rel=0.01)


def test_nothing_counted_gives_zeros() -> None:
    assert set(Durations().summary().values()) == {0.0}


@pytest.mark.parametrize("seconds", [0.0, -1e-9, 1e-12])
def test_a_duration_too_short_to_measure_counts_as_almost_nothing(seconds: float) -> None:
    counted = durations(np.array([seconds]))
    assert counted.count == 1
    assert counted.percentile_s(50) <= 1e-7


def test_a_duration_of_days_stays_in_the_last_bucket() -> None:
    counted = durations(np.array([1e6, 1e6]))
    assert 9e4 < counted.percentile_s(99) <= counted.max_s == 1e6


def test_memory_does_not_grow_with_the_number_of_durations() -> None:
    counted = Durations()
    size = counted._buckets.nbytes
    for _ in range(2000):
        counted.add(0.01)
    assert counted._buckets.nbytes == size < 50_000
