"""``rtseg import``: what it prints, and that the result runs in other commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.foreign_graphs import ForeignGraph

from rtseg.cli import main
from rtseg.model_file.load import load_model

pytest.importorskip("onnxruntime")


def network(path: Path, name: str = "logits") -> Path:
    graph = ForeignGraph([1, 3, 32, 64])
    graph.conv(3, stride=2)
    graph.output(name)
    return graph.save(path)


def test_the_table_the_result_and_the_guesses_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.onnx")
    assert main(["import", "net.onnx", "--classes", "sky,road,car"]) == 0
    text = capsys.readouterr().out
    assert "guessed: most networks use" in text
    assert "scores of 3 classes at 16x32" in text
    assert "labels agree with the original on 100.000 % of pixels (3 classes occur), both in ONNX Runtime" in text
    assert "guessed: input values: look at the result, e.g. rtseg stream VIDEO --model net-rtseg.onnx" in text
    assert "overlays with other input values are in net-rtseg-inputs.png" in text
    assert load_model(Path("net-rtseg.onnx")).spec.classes == ("sky", "road", "car")


def test_the_result_is_verified_and_streamed_like_any_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = network(tmp_path / "net.onnx"), str(tmp_path / "out.onnx")
    assert main(["import", str(path), "--classes", "a,b,c", "--scale", "255", "--output", output, "--quiet"]) == 0
    assert main(["verify", output, output, "--precision", "fp32", "--frames", "2"]) == 0
    words = ["stream", "demo", "--model", output, "--output", "null", "--max-frames", "2"]
    assert main(words) == 0
    assert main(["stream", "demo", "--model", output, "--size", "48x80", "--output", "null"]) == 2
    assert "multiples of 32" in capsys.readouterr().err


def test_names_of_a_file_do_not_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = network(tmp_path / "net.onnx", "a\x1b]0;title\x07b")
    output = tmp_path / "out.onnx"
    assert main(["import", str(path), "--classes", "a,b,c", "--scale", "255", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "a?]0;title?b" in text
    assert "\x1b" not in text
    assert load_model(output).spec.extra["import"]["output"] == "a?]0;title?b"
