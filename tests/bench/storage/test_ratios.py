from __future__ import annotations

import pytest
from helpers.bench_results import storage_result

RESULT = storage_result()


def ratio(name: str, storage: str = "") -> dict[str, object]:
    (found,) = [row for row in RESULT["ratios"] if row["name"] == name and storage in row["of"]]
    return dict(found)


def test_cv2_against_pil_is_of_each_at_its_best_warm() -> None:
    assert ratio("cv2 against pil")["ratio"] == pytest.approx(160 / 40)


def test_a_decoder_that_does_not_know_the_format_has_no_ratio_but_a_reason() -> None:
    found = ratio("turbojpeg against cv2")
    assert (found["ratio"], found["of"]) == (None, "turbojpeg decodes no PNG")


def test_the_best_workers_are_set_against_none_on_each_storage() -> None:
    assert ratio("best workers against 0", "ssd")["ratio"] == pytest.approx(100 / 50)
    found = ratio("best workers against 0", "hdd")
    assert found["ratio"] == 1.0  # on the disk more workers hurt: none is the best
    assert found["simulated"]


def test_ssd_against_disk_is_of_the_automatic_profile_and_names_the_pipeline() -> None:
    found = ratio("SSD against hard disk")
    assert found["ratio"] == pytest.approx(95 / 38)
    assert found["simulated"]
    assert "2.00 (40.0 against 20.0 fps)" in str(found["of"])


def test_the_second_pass_is_set_against_the_first() -> None:
    assert ratio("--ssd-cache: second pass against first")["ratio"] == pytest.approx(3.0)


def test_nothing_measured_leaves_five_reasons() -> None:
    from rtseg.bench.storage.ratios import ratios

    found = ratios([], [], [])
    assert [row["ratio"] for row in found] == [None] * 5
    assert all(row["of"] for row in found)


def test_the_automatic_profile_stands_beside_the_best_number_of_workers() -> None:
    shares = {(row["storage"], row["state"]): row for row in RESULT["automatic"]}
    assert set(shares) == {(storage, state) for storage in ("ssd", "hdd") for state in ("cold", "warm")}
    assert shares["ssd", "cold"]["share"] == pytest.approx(0.95)
    assert shares["ssd", "warm"]["share"] == pytest.approx(168 / 160)
    assert shares["hdd", "cold"]["share"] == pytest.approx(38 / 25)
    assert shares["hdd", "cold"]["best_workers"] == 0
