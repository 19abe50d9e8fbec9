from __future__ import annotations

import pytest
from helpers.bench_results import storage_result

RESULT = storage_result()


def ratio(name: str, storage: str = "") -> dict[str, object]:
    (match,) = [row for row in RESULT["ratios"] if row["name"] == name and storage in row["of"]]
    return dict(match)


def test_cv2_and_pil_are_compared_warm_with_their_best_workers() -> None:
    assert ratio("cv2 against pil")["ratio"] == pytest.approx(160 / 40)


def test_a_decoder_that_does_not_support_the_format_has_a_reason_instead_of_a_ratio() -> None:
    entry = ratio("turbojpeg against cv2")
    assert (entry["ratio"], entry["of"]) == (None, "turbojpeg decodes no PNG")


def test_the_best_workers_are_compared_with_none_on_each_storage() -> None:
    assert ratio("best workers against 0", "ssd")["ratio"] == pytest.approx(100 / 50)
    entry = ratio("best workers against 0", "hdd")
    assert entry["ratio"] == 1.0  # on the disk more workers hurt: none is the best
    assert entry["simulated"]


def test_ssd_and_disk_are_compared_with_the_automatic_profile() -> None:
    entry = ratio("SSD against hard disk")
    assert entry["ratio"] == pytest.approx(95 / 38)
    assert entry["simulated"]
    assert "2.00 (40.0 against 20.0 fps)" in str(entry["of"])


def test_the_second_cache_pass_is_compared_with_the_first() -> None:
    assert ratio("--ssd-cache: second pass against first")["ratio"] == pytest.approx(3.0)


def test_without_measurements_there_are_five_reasons() -> None:
    from rtseg.bench.storage.ratios import ratios

    rows = ratios([], [], [])
    assert [row["ratio"] for row in rows] == [None] * 5
    assert all(row["of"] for row in rows)


def test_the_automatic_profile_is_compared_with_the_best_number_of_workers() -> None:
    shares = {(row["storage"], row["state"]): row for row in RESULT["automatic"]}
    assert set(shares) == {(storage, state) for storage in ("ssd", "hdd") for state in ("cold", "warm")}
    assert shares["ssd", "cold"]["share"] == pytest.approx(0.95)
    assert shares["ssd", "warm"]["share"] == pytest.approx(168 / 160)
    assert shares["hdd", "cold"]["share"] == pytest.approx(38 / 25)
    assert shares["hdd", "cold"]["best_workers"] == 0
