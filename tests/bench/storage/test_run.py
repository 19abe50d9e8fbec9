"""The whole storage benchmark, with tiny images, a fake backend and a fast simulated disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.doubles import FakeBackend

from rtseg.bench.report import make_result
from rtseg.bench.schema import check_result
from rtseg.bench.storage.image_sets import DrawnOptions
from rtseg.bench.storage.memory import Memory
from rtseg.bench.storage.run import StorageOptions, measure_storage
from rtseg.bench.storage.simulated_disk import DiskModel
from rtseg.bench.storage.targets import parse_targets
from rtseg.errors import MissingExtra, OptionError
from rtseg.image_io.storage_kind import Storage

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder for temporary files, on an SSD."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for module in ("storage.targets", "storage.run"):
        monkeypatch.setattr(f"rtseg.bench.{module}.find_storage", lambda path: Storage("ssd", "the test says so"))
    fast = DiskModel(seek_ms=0.01, turn_ms=0.01, mb_per_s=1e4)
    monkeypatch.setattr("rtseg.bench.storage.run.DiskModel", lambda: fast)
    monkeypatch.setattr("rtseg.bench.storage.run.measure_read_memory", lambda folder, reading: Memory(50.0, 60.0, 256))
    monkeypatch.setattr("rtseg.bench.storage.run.open_backend", lambda *arguments, **options: FakeBackend(depth=2))
    return folder


def options(*storages: str, simulate: bool = False, **more: Any) -> StorageOptions:
    few = {"drawn": DrawnOptions(4, (64, 64), "png"), "decoders": ("cv2",), "workers": (0, 2), "rounds": 2}
    return StorageOptions(targets=tuple(parse_targets(storages, simulate=simulate)), **(few | more))


class TestWhole:
    @pytest.fixture
    def result(self) -> dict[str, Any]:
        storage_options = options("ssd", "hdd", simulate=True, decoders=("cv2", "turbojpeg"))
        return make_result("storage", measure_storage(storage_options), {}, 0.1)

    def test_everything_is_measured_marked_and_removed(self, result: dict[str, Any], temporary_folder: Path) -> None:
        check_result(result)
        assert result["complete"]
        rows = [(row["storage"], row["decoder"], row["workers"]) for row in result["reading"]]
        own = [("cv2", 0), ("cv2", 2), ("cv2", "auto"), ("turbojpeg", None)]
        assert rows == [(storage, *rest) for storage in ("ssd", "hdd") for rest in own]
        for section in ("storages", "reading", "automatic", "cache", "pipeline", "ratios"):
            assert result[section]
        for section in ("storages", "reading", "automatic", "cache", "pipeline"):
            for row in result[section]:
                assert row["simulated"] == (row["storage"] == "hdd")
        assert result["disk_model"]["seek_ms"] == 0.01
        skipped = [row for row in result["reading"] if row["decoder"] == "turbojpeg"]
        assert all(row["skipped"] == "turbojpeg decodes no PNG" and row["cold"] is None for row in skipped)
        measured = [row for row in result["reading"] if row["decoder"] == "cv2"]
        assert all(len(row[state]["images_per_s"]["rounds"]) == 2 for row in measured for state in ("cold", "warm"))
        pipeline = {(row["storage"], row["state"]): row for row in result["pipeline"]}
        assert set(pipeline) == {(storage, state) for storage in ("ssd", "hdd") for state in ("cold", "warm")}
        assert all(row["frames"] == 8 and row["dropped"] == 0 for row in pipeline.values())
        assert all(set(row["stages"]) == {"read", "prepare", "infer", "render", "null"} for row in pipeline.values())
        assert all((row["limit_fps"] is not None) == (state == "warm") for (_, state), row in pipeline.items())
        assert [row["ratio"] is None for row in result["ratios"]] == [True, True, False, False, False, False]
        assert list(temporary_folder.iterdir()) == []


def test_runs_are_made_in_turn_cold_before_warm() -> None:
    progress: list[str] = []
    measure_storage(options("ssd", network=False), lambda done, total, what: progress.append(what))
    once = [f"read ssd cv2 {workers} {state}" for workers in (0, 2, "auto") for state in ("cold", "warm")]
    assert progress[1:] == [f"round {round_}: {what}" for round_ in (1, 2) for what in once]


def test_other_preprocessing_steps_are_used_and_reported() -> None:
    sections = measure_storage(options("ssd", preprocess=("clahe",), workers=(0,), rounds=1))
    check_result(make_result("storage", sections, {}, 0.1))
    assert [(row["preprocess"], row["preprocess_of_model"]) for row in sections["pipeline"]] == 2 * [(["clahe"], [])]
    assert all(row["limit_fps"] for row in sections["pipeline"] if row["state"] == "warm")


def test_a_missing_background_is_reported_and_written_files_are_removed(temporary_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"background image missing\.png"):
        measure_storage(options("ssd", preprocess=("background:missing.png",)))
    assert list(temporary_folder.iterdir()) == []


def test_ctrl_c_keeps_the_measurements_and_removes_written_files(temporary_folder: Path) -> None:
    def on_progress(done: int, total: int, what: str) -> None:
        assert len(list(temporary_folder.iterdir())) >= 1
        if what.startswith("round 1: read ssd cv2 2 warm"):
            raise KeyboardInterrupt

    result = make_result("storage", measure_storage(options("ssd"), _after_writing(on_progress)), {}, 0.1)
    check_result(result)
    assert not result["complete"]
    (none, two) = result["reading"]
    assert (none["workers"], two["workers"]) == (0, 2)
    assert none["cold"]
    assert none["warm"]
    assert two["cold"]
    assert two["warm"] is None
    assert result["pipeline"] == []
    assert list(temporary_folder.iterdir()) == []


def _after_writing(on_progress: Any) -> Any:
    return lambda done, total, what: None if what == "writing images" else on_progress(done, total, what)


def test_the_images_of_the_user_are_read_in_their_folder_and_stay(tmp_path: Path, temporary_folder: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        cv2.imwrite(str(data / f"{number}.png"), np.zeros((64, 64), np.uint8))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.iterdir()}
    sections = measure_storage(options("ssd", data=data, network=False))
    assert sections["storages"][0]["folder"] == str(data)
    assert sections["images"]["drawn"] is False
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.iterdir()} == before
    assert list(temporary_folder.iterdir()) == []


def test_a_storage_of_another_kind_is_refused_before_anything_is_written(temporary_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"is ssd \(the test says so\), not hdd: .*--simulate"):
        measure_storage(options("hdd"), lambda done, total, what: pytest.fail("it went on"))
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rounds": 0}, "--rounds"),
        ({"workers": ()}, "--workers"),
        ({"workers": (-1,)}, "--workers"),
        ({"decoders": ("jpeg2000",)}, "--decoder"),
        ({"data": Path("/no/such")}, "--data /no/such is not a folder"),
        ({"cache": Path("/no/such")}, "--ssd-cache /no/such is not a folder"),
    ],
)
def test_wrong_options_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        options("ssd", **more)


def test_a_requested_decoder_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "simplejpeg", None)
    with pytest.raises(MissingExtra, match="simplejpeg"):
        options("ssd", decoders=("turbojpeg",))
