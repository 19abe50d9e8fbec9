"""``rtseg bench``: its options, its exit codes, and one small run of each kind."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.doubles import FakeBackend

from rtseg.bench.schema import check_result
from rtseg.bench.storage.memory import Memory
from rtseg.cli import main
from rtseg.image_io.storage_kind import Storage

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a clip of four images; temporary files have a folder of their own, on an SSD."""
    place = tmp_path / "work"
    (tmp_path / "temporary").mkdir()
    (place / "clip").mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(place / "clip" / f"{number}.png"), np.full((64, 64), number, np.uint8))
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for module in ("storage.targets", "storage.run"):
        monkeypatch.setattr(f"rtseg.bench.{module}.find_storage", lambda path: Storage("ssd", "the test says so"))
    monkeypatch.setattr("rtseg.bench.storage.run.measure_read_memory", lambda folder, reading: Memory(50.0, 60.0, 256))
    for module in ("pipeline", "storage.run"):
        monkeypatch.setattr(f"rtseg.bench.{module}.open_backend", lambda *arguments, **options: FakeBackend())
    return place


@pytest.fixture
def of_storage() -> Callable[..., int]:
    def call(*more: str) -> int:
        few = ["--reading-only", "--workers", "0", "--decoders", "cv2", "--rounds", "1"]
        return main(["bench", "--storage", "ssd", "--data", "clip", *few, *more])

    return call


@pytest.fixture
def of_clip() -> Callable[..., int]:
    def call(*more: str) -> int:
        return main(["bench", "--pipeline", "--source", "clip", "--frames", "4", "--rounds", "1", *more])

    return call


def slowed(path: Path, factor: float) -> dict[str, Any]:
    """Have the older result in ``path`` be so many times as fast as it was."""
    result: dict[str, Any] = json.loads(path.read_text())
    for row in result["pipeline"]:
        for figures in (row["fps"], *row["latency_ms"].values()):
            figures["median"] *= factor
    for row in result["pipeline"]:
        for figures in row["latency_ms"].values():
            figures["median"] /= factor**2
    path.write_text(json.dumps(result))
    return result


def test_a_storage_leaves_table_json_and_chart_and_nothing_else(
    of_storage: Callable[..., int], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_storage("--output", "out") == 0
    said = capsys.readouterr().out
    assert "reading and decoding" in said
    assert "wrote out/storage.json and out/storage.png" in said
    result = json.loads((work / "out/storage.json").read_text())
    check_result(result)
    assert result["kind"] == "storage"
    assert result["images"]["images"] == 4
    assert (work / "out/storage.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in work.iterdir()} == {"clip", "out"}
    assert len(list((work / "clip").iterdir())) == 4
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_backends_alone_measure_the_pipeline(of_clip: Callable[..., int], work: Path) -> None:
    words = ["bench", "--backends", "one,two", "--source", "clip", "--frames", "4", "--rounds", "1", "-o", "out"]
    assert main(words) == 0
    result = json.loads((work / "out/pipeline.json").read_text())
    check_result(result)
    assert {row["asked_for"] for row in result["pipeline"]} == {"one", "two"}


def test_steps_are_as_asked_in_json_and_table(
    of_clip: Callable[..., int], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_clip("--preprocess", "resize,clahe:clip=2,tiles=8", "-o", "out") == 0
    assert capsys.readouterr().out.count("images are prepared by resize,clahe:clip=2,tiles=8\n") == 1
    result = json.loads((work / "out/pipeline.json").read_text())
    assert {tuple(row["preprocess"]) for row in result["pipeline"]} == {("clahe:clip=2,tiles=8",)}
    assert result["workload"]["preprocess"] == ["clahe:clip=2,tiles=8"]


class TestComparing:
    @pytest.fixture
    def old(self, of_clip: Callable[..., int], work: Path) -> Path:
        assert of_clip("--output", "old") == 0
        return work / "old/pipeline.json"

    @pytest.mark.parametrize(("factor", "code"), [(1e-6, 0), (1e6, 1)])
    def test_it_exits_with_1_where_a_figure_fell_by_more_than_it_may(
        self, of_clip: Callable[..., int], old: Path, factor: float, code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        slowed(old, factor)
        assert of_clip("--compare", str(old), "--max-regression", "50") == code
        said = capsys.readouterr().out
        assert "new against old" in said
        assert ("worse by" in said) == bool(code)

    def test_another_clip_is_refused_before_it_is_run(
        self, of_clip: Callable[..., int], old: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        assert of_clip("--compare", str(old), "--frames", "5") == 2
        assert capsys.readouterr() == ("", "rtseg: --compare: frames was 4 and is 5 now: measure the same work\n")

    def test_so_are_other_steps(
        self, of_clip: Callable[..., int], old: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        assert of_clip("--compare", str(old), "--preprocess", "clahe") == 2
        assert "preprocess was None and is ['clahe'] now" in capsys.readouterr().err

    def test_so_is_a_result_of_storages(
        self, of_storage: Callable[..., int], old: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        assert of_storage("--compare", str(old)) == 2
        assert "the older result measures pipeline" in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": "rtseg-bench-0"}'])
    def test_so_is_what_is_no_result(
        self, of_clip: Callable[..., int], work: Path, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (work / "old.json").write_text(text)
        assert of_clip("--compare", "old.json") == 2
        expected = "rtseg: --compare old.json is not a result of this version of `rtseg bench`"
        assert capsys.readouterr().err.startswith(expected)


def test_ctrl_c_writes_what_was_measured_and_exits_with_130(
    of_clip: Callable[..., int], work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rtseg.bench import pipeline as clip

    real, runs = clip.run_pipeline, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        runs.append(1)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(clip, "run_pipeline", interrupted)
    assert of_clip("--output", "out") == 130
    assert "stopped: these are the measurements so far" in capsys.readouterr().out
    result = json.loads((work / "out/pipeline.json").read_text())
    check_result(result)
    assert not result["complete"]
    assert [row["state"] for row in result["pipeline"]] == ["file"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "neither is given"),
        ("--storage ssd --pipeline", "both are given"),
        ("--storage tape", "--storage must be one of ssd, hdd, auto"),
        ("--storage hdd --data clip", "is ssd (the test says so), not hdd: give a folder on one, or --simulate"),
        ("--storage ssd --simulate", "--simulate is for a hard disk"),
        ("--storage ssd --workers 1,x", "--workers must be whole numbers"),
        ("--storage ssd --image-size 12", "--image-size must be HEIGHTxWIDTH"),
        ("--storage ssd --format gif", "--format must be png or jpg"),
        ("--storage ssd --decoders cv2,magick", "--decoder must be one of"),
        ("--storage ssd --size x", "--size must be HEIGHTxWIDTH"),
        ("--pipeline --source clip --preprocess blur", "unknown preprocessing step 'blur'"),
        ("--pipeline --source missing.mp4", "there is no file or folder missing.mp4"),
        ("--pipeline --source clip --max-regression -1", "--max-regression must be in"),
        ("--pipeline --source clip --compare missing.json", "cannot be read"),
        ("--pipeline --source clip --output clip/0.png", "is a file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: str, said: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rtseg: ")
    assert err.count("\n") == 1
    assert said in err
    assert {path.name for path in work.iterdir()} == {"clip"}
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


def test_help_loads_no_library() -> None:
    code = (
        "import sys; from rtseg.cli import main; assert main(['bench', '--help']) == 0\n"
        "heavy = {'torch', 'openvino', 'numpy', 'cv2', 'matplotlib', 'PIL'}\n"
        "print('loaded:', *heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
