from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_network import SIZE, small_graph

from rtseg.app.options import StreamOptions
from rtseg.app.presets import apply_preset
from rtseg.cli import main
from rtseg.errors import OptionError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import write_spec
from rtseg.sources.options import SourceOptions

SMALL = "fringes:1@160x144"
STEPS = ("background:fringes-background.png", "clahe:clip=2,tiles=8")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small_file(*steps: str) -> str:
    graph = small_graph()
    Path("small.onnx").write_bytes(graph.SerializeToString())
    write_spec(graph, replace(load_model(Path("small.onnx")).spec, preprocess=steps))
    Path("small.onnx").write_bytes(graph.SerializeToString())
    return "small.onnx"


def test_the_defaults_are_synthetic_fringes_at_1024x1024(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fringes-background.png").touch()  # else it would be computed at 3072x3072
    messages: list[str] = []
    options = apply_preset("fringes", StreamOptions(), messages.append)
    assert (options.source, options.size, options.preprocess) == ("fringes:2", (1024, 1024), STEPS)
    assert "its classes mean nothing here" in messages[-1]
    assert "rtseg train --data synthetic:fringes" in messages[-1]


def test_the_background_is_computed_from_the_source_and_then_reused() -> None:
    messages: list[str] = []
    options = apply_preset("fringes", StreamOptions(SMALL, small_file()), messages.append)
    assert (options.size, options.preprocess) == (None, STEPS)
    made = cv2.imread("fringes-background.png", cv2.IMREAD_UNCHANGED)
    assert made.shape == (144, 160)
    assert messages[-1] == "background: fringes-background.png, the mean of 25 frames"
    cv2.imwrite("fringes-background.png", np.zeros((9, 9), np.uint8))
    apply_preset("fringes", StreamOptions(SMALL, "small.onnx"), messages.append)
    assert cv2.imread("fringes-background.png", cv2.IMREAD_UNCHANGED).shape == (9, 9)
    assert "already exists" in messages[-1]


def test_the_background_uses_the_streamed_part_of_the_source() -> None:
    messages: list[str] = []
    part = SourceOptions(start_s=0.2, max_frames=3)
    apply_preset("fringes", StreamOptions(SMALL, small_file(), part=part), messages.append)
    assert messages[-1].endswith("the mean of 3 frames")


def test_a_model_keeps_its_own_preprocessing_steps() -> None:
    model = small_file("clahe:clip=4,tiles=2")
    options = apply_preset("fringes", StreamOptions(SMALL, model))
    assert options.preprocess is None
    assert not Path("fringes-background.png").exists()


def test_given_options_are_kept() -> None:
    given = StreamOptions(SMALL, small_file(), size=(64, 64), preprocess=("clahe",))
    assert apply_preset("fringes", given) == given


def test_an_unknown_preset_is_refused_and_the_message_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="unknown preset 'moon'; known are fringes"):
        apply_preset("moon", StreamOptions())


def test_the_stream_command_applies_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "fringes", "--source", SMALL, "--model", small_file(), "--backend", "onnxruntime"]
    assert main(["stream", *options, "--output", "null", "--report", "run.json"]) == 0
    printed = capsys.readouterr().out
    assert "the mean of 25 frames" in printed
    assert f"prepared by resize,{','.join(STEPS)}; small was trained with resize" in printed
    report = json.loads(Path("run.json").read_text())
    assert (report["frames_written"], report["size"], report["preprocess"]) == (25, list(SIZE), list(STEPS))
