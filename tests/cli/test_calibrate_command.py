"""``rtseg calibrate``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from helpers.small_network import small_data, small_model

from rtseg.cli import main
from rtseg.deploy import calibrate as module
from rtseg.model_file.activation_ranges import read_ranges
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import record_ranges

TIMEOUT_S = 120


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return small_model(tmp_path)


@pytest.fixture
def data(small: ModelFile, tmp_path: Path) -> str:
    return small_data(small, tmp_path / "data")


def test_it_writes_ranges_that_stream_and_eval_then_take(
    small: ModelFile, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(small.path)
    assert main(["calibrate", path, "--data", data, "--method", "minmax", "--frames", "10"]) == 0
    printed = capsys.readouterr().out
    assert "wrote calib/small.json: small, minmax on 10 images of " in printed
    assert "0 nodes left in float" in printed
    assert "% of pixels, mIoU " in printed
    assert read_ranges(Path("calib/small.json")).frames == 10
    for backend in ("openvino", "onnxruntime"):
        options = ["--data", data, "--split", "train", "--precision", "int8", "--backend", backend]
        assert main(["eval", "--model", path, *options, "--size", "32x64"]) == 0
        assert f"{backend} int8" in capsys.readouterr().out


def test_without_ranges_int8_says_what_to_do(small: ModelFile, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", str(small.path), "--data", data, "--split", "train", "--precision", "int8"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("rtseg: no INT8 ranges for small: record them with `rtseg calibrate ")
    assert complaint.count("\n") == 1


def test_a_model_that_int8_does_not_suit_is_exit_code_1(
    small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record_narrow(*arguments: Any) -> dict[str, tuple[float, float]]:
        return {name: (low / 99, high / 99) for name, (low, high) in record_ranges(*arguments).items()}

    monkeypatch.setattr(module, "record_ranges", record_narrow)
    monkeypatch.setattr(module, "_MAX_FLOAT_GROUPS", 1)
    assert main(["calibrate", str(small.path), "--data", data]) == 1
    assert "rtseg: INT8 does not suit small, mIoU drops by" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--method", "random"], "--method must be one of minmax, entropy, percentile, got 'random'"),
        (["--split", "val"], "--split val is for measuring"),
        (["--output", "ranges.txt"], "--output must end in .json"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "icnet-camvid", "--data", "camvid:nowhere", *arguments]) == 2
    assert complaint in capsys.readouterr().err


class TestStopping:
    def test_ctrl_c_is_told_in_a_line_with_code_130_and_nothing_is_written(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stop(*given: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "record_ranges", stop)
        assert main(["calibrate", str(small.path), "--data", data]) == 130
        assert capsys.readouterr().err == "rtseg: stopped\n"
        assert not Path("calib").exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
    def test_ctrl_c_while_it_works_ends_the_process_with_130_and_no_traceback(
        self, small: ModelFile, data: str, tmp_path: Path
    ) -> None:
        working = tmp_path / "working"
        code = (
            "import signal, sys, time; from pathlib import Path\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
            "from rtseg.cli import main; from rtseg.deploy import calibrate\n"
            "def work(model, images, *given):\n"
            f"    Path({str(working)!r}).touch()\n"
            "    for _ in images: pass\n"
            "    time.sleep(600)\n"
            "calibrate.record_ranges = work\n"
            "sys.exit(main())"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, "calibrate", str(small.path), "--data", data, "--frames", "10"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not working.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "it did not begin to work"
                Event().wait(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        assert (process.returncode, out, err) == (130, "", "rtseg: stopped\n")
