from __future__ import annotations

import pytest
from helpers.bench_results import WORKLOAD, clip_result, storage_result

from rtseg.bench.compare import check_comparable, compare, regressions
from rtseg.errors import OptionError


def test_ratios_are_new_divided_by_old() -> None:
    changes = {change.name: change for change in compare(clip_result(fps=30), clip_result(fps=33, p95=18))}
    assert changes["clip.mp4, auto, file: rate"].ratio == pytest.approx(1.1)
    assert changes["clip.mp4, auto, live: latency p95"].ratio == pytest.approx(0.9)
    assert changes["clip.mp4, auto, live: latency p95"].loss == pytest.approx(-10)


@pytest.mark.parametrize(("fps", "worse"), [(27.1, False), (26.9, True), (60.0, False)])
def test_a_rate_may_fall_by_the_given_percentage(fps: float, worse: bool) -> None:
    assert bool(regressions(compare(clip_result(fps=30), clip_result(fps=fps)), 10)) == worse


@pytest.mark.parametrize(("p95", "worse"), [(21.9, False), (22.1, True), (5.0, False)])
def test_a_latency_may_rise_by_the_given_percentage(p95: float, worse: bool) -> None:
    changes = regressions(compare(clip_result(p95=20), clip_result(p95=p95)), 10)
    assert [change.unit for change in changes] == (["ms"] if worse else [])


def test_the_latency_of_a_file_is_not_compared() -> None:
    names = [change.name for change in compare(clip_result(), clip_result())]
    assert "clip.mp4, auto, file: latency p95" not in names


def test_reading_and_cache_are_compared_too() -> None:
    old, new = storage_result(), storage_result()
    new["reading"][0]["cold"]["images_per_s"]["median"] /= 2
    new["cache"][0]["second"]["images_per_s"]["median"] /= 4
    names = [change.name for change in regressions(compare(old, new), 10)]
    assert names == ["ssd, cv2, workers 0, cold", "hdd (simulated), --ssd-cache, second pass"]


def test_a_simulated_disk_is_not_compared_with_a_real_one() -> None:
    old, new = storage_result(), storage_result()
    for row in old["reading"]:
        row["simulated"] = False
    names = [change.name for change in compare(old, new)]
    assert names
    assert not any(name.startswith("hdd") and "workers" in name for name in names)


def test_results_with_nothing_in_common_are_refused() -> None:
    old = clip_result()
    for row in old["pipeline"]:
        row["asked_for"] = "torch"
    with pytest.raises(OptionError, match="nothing in common"):
        compare(old, clip_result())


class TestComparable:
    def test_the_same_workload_is_accepted(self) -> None:
        check_comparable(clip_result(), "pipeline", dict(WORKLOAD))

    def test_another_kind_is_refused(self) -> None:
        with pytest.raises(OptionError, match="measures pipeline, this one storage"):
            check_comparable(clip_result(), "storage", {})

    @pytest.mark.parametrize(
        ("key", "value"), [("frames", 20), ("source", "b.mp4"), ("model", "m"), ("model_size", [64, 64])]
    )
    def test_another_workload_is_refused(self, key: str, value: object) -> None:
        with pytest.raises(OptionError, match=f"{key} was .* now: measure the same work"):
            check_comparable(clip_result(), "pipeline", WORKLOAD | {key: value})

    def test_another_disk_model_is_refused(self) -> None:
        old = storage_result() | {"disk_model": {"seek_ms": 1.0}}
        with pytest.raises(OptionError, match="simulated another disk model"):
            check_comparable(old, "storage", old["workload"])
