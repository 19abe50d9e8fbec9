from __future__ import annotations

import numpy as np
import pytest

from rtseg.pipeline.durations import Durations


def durations(samples: np.ndarray) -> Durations:
    recorded = Durations()
    for seconds in samples:
        recorded.add(float(seconds))
    return recorded


@pytest.mark.parametrize("count", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("percent", [0, 25, 50, 95, 99, 100])
def test_percentiles_agree_with_numpy_within_one_percent(count: int, percent: float) -> None:
    samples = np.random.default_rng(count).lognormal(-4, 1.5, count)
    expected = np.percentile(samples, percent, method="inverted_cdf")
    assert durations(samples).percentile_s(percent) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("seconds", [2e-7, 1e-3, 0.04, 17.0, 5e4])
def test_the_percentile_of_equal_durations_is_that_duration_from_200_ns_to_14_hours(seconds: float) -> None:
    assert durations(np.full(9, seconds)).percentile_s(50) == pytest.approx(seconds, rel=0.01)


def test_no_percentile_is_above_the_maximum() -> None:
    recorded = durations(np.random.default_rng(0).uniform(0.01, 0.02, 100))
    assert recorded.percentile_s(100) <= recorded.max_s


def test_mean_count_and_maximum_are_exact() -> None:
    recorded = durations(np.array([0.1, 0.2, 0.6]))
    assert recorded.count == 3
    assert recorded.max_s == 0.6
    assert recorded.summary()["mean_ms"] == pytest.approx(300)
    assert recorded.summary()["max_ms"] == pytest.approx(600)


def test_a_summary_has_the_figures_of_a_report_in_milliseconds() -> None:
    samples = np.linspace(0.01, 0.1, 1000)
    summary = durations(samples).summary()
    assert set(summary) == {"mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"}
    for percent in (50, 95, 99):
        expected = 1e3 * np.percentile(samples, percent, method="inverted_cdf")
        assert summary[f"p{percent}_ms"] == pytest.approx(expected, rel=0.01)


def test_without_durations_all_figures_are_zero() -> None:
    assert set(Durations().summary().values()) == {0.0}


@pytest.mark.parametrize("seconds", [0.0, -1e-9, 1e-12])
def test_a_duration_too_short_to_measure_counts_as_almost_nothing(seconds: float) -> None:
    recorded = durations(np.array([seconds]))
    assert recorded.count == 1
    assert recorded.percentile_s(50) <= 1e-7


def test_a_duration_of_days_stays_in_the_last_bucket() -> None:
    recorded = durations(np.array([1e6, 1e6]))
    assert 9e4 < recorded.percentile_s(99) <= recorded.max_s == 1e6


def test_memory_does_not_grow_with_the_number_of_durations() -> None:
    recorded = Durations()
    size = recorded._buckets.nbytes
    for _ in range(2000):
        recorded.add(0.01)
    assert recorded._buckets.nbytes == size < 50_000
