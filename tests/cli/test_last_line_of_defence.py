"""Errors that nobody foresaw, and secrets in what is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rtseg.cli import main

SCRIPT = "import sys; from rtseg.cli import main; sys.exit(main())"


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("rtseg.weights.bundled_models", fail)
    monkeypatch.setattr("rtseg.cli.models.bundled_models", fail, raising=False)


class TestBugs:
    def test_an_unforeseen_error_is_one_redacted_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fail_with(ZeroDivisionError("rtsp://user:geheim@host\nand more"), monkeypatch)
        assert main(["models"]) == 70
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("rtseg: ZeroDivisionError: rtsp://***@host and more (test_last_line_of_defence.py:")
        assert line.endswith("this is a bug in rtseg, please report it; add --log-level debug for the traceback")

    @pytest.mark.parametrize("words", [["--log-level", "debug"], ["--log-level=debug"]])
    def test_debug_adds_the_redacted_traceback(
        self, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fail_with(ValueError("rtsp://user:geheim@host"), monkeypatch)
        assert main(["models", *words]) == 70
        err = capsys.readouterr().err
        assert "Traceback (most recent call last)" in err
        assert "geheim" not in err
        assert err.splitlines()[-1].endswith("please report it; the traceback is above")

    def test_too_little_memory_is_no_bug(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fail_with(MemoryError(), monkeypatch)
        assert main(["models"]) == 2
        assert "not enough memory" in capsys.readouterr().err

    def test_control_characters_of_a_message_are_escaped(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["stream", "no\x1b]0;title\x07.mp4"]) == 2
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert r"no\x1b]0;title\x07.mp4" in err

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_behind_the_output_is_one_line(self) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, "models"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
            )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "the disk is full" in done.stderr

    def test_a_reader_that_has_gone_ends_it_quietly(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, "--version"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")


class TestSecrets:
    @pytest.mark.parametrize(
        "words",
        [
            ["predict", "https://user:geheim@127.0.0.1:9/a.png", "--output", "out"],
            ["stream", "demo", "--model", "https://user:geheim@127.0.0.1:9/a.onnx", "--output", "null"],
            ["eval", "--data", "pairs:https://user:geheim@127.0.0.1:9/a,b"],
            ["stream", "demo", "--preprocess", "background:https://user:geheim@127.0.0.1:9/a.png", "--output", "null"],
            ["stream", "demo:0.1", "--output", "rtmp://127.0.0.1/live/geheim"],
            ["stream", "http://127.0.0.1:9/a.mp4?sas=geheim#geheim", "--output", "null"],
            ["stream", "rtmp://127.0.0.1:9/live/geheim", "--output", "null"],
            ["stream", "rtsp://admin:geheim'<@127.0.0.1:9/s", "--output", "null"],
            ["stream", "demo", "--view", "rtsp://admin:geheim@127.0.0.1"],
            ["rtsp://admin:geheim@127.0.0.1"],
        ],
    )
    def test_no_secret_of_a_url_is_printed(
        self, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(words) == 2
        out, err = capfd.readouterr()
        assert "geheim" not in out + err
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("rtseg: ")

    @pytest.mark.parametrize("sign", ["\uff20", "[", "]", "#", "/", "?"])
    def test_signs_that_must_be_escaped_are_named(self, sign: str, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["stream", f"rtsp://admin:ge{sign}heim@127.0.0.1:9/s", "--output", "null", "-q"]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("rtseg: rtsp://***@127.0.0.1:9/s ")
        assert "heim" not in line
        assert "as %23 %2F" in line


def test_an_address_space_in_which_the_libraries_would_crash_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (800_000_000, -1))
    assert main(["models"]) == 2
    assert capsys.readouterr().err == (
        "rtseg: the address space is limited to 800 MB, but the libraries reserve more: "
        "raise the limit with `ulimit -v 1953125`\n"
    )
