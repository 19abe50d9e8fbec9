"""``rtseg background``: what it prints and writes, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.cli import main


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with four grey frames."""
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    for number in range(4):
        cv2.imwrite(f"frames/{number}.png", np.full((30, 40), 10 * number, np.uint8))
    return tmp_path


def test_it_says_what_was_made_and_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["background", "frames", "-o", "still.png"]) == 0
    assert (cv2.imread("still.png", cv2.IMREAD_UNCHANGED) == 15).all()
    assert capsys.readouterr().out == (
        "wrote still.png: mean of 4 frames, 30x40, grey; subtract it with --preprocess resize,background:still.png\n"
    )


def test_the_median_of_some_in_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--median", "--frames", "3", "--size", "15x20"]
    assert main(["background", "frames/*.png", "-o", "still.png", *options]) == 0
    assert (cv2.imread("still.png", cv2.IMREAD_UNCHANGED) == 20).all()  # of 0, 20 and 30
    assert "median of 3 frames, 15x20, grey" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("still.png").write_bytes(b"mine")
    assert main(["background", "frames", "-o", "still.png"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("rtseg: still.png already exists")
    assert complaint.count("\n") == 1
    assert Path("still.png").read_bytes() == b"mine"
    assert main(["background", "frames", "-o", "still.png", "--overwrite"]) == 0


def test_the_steps_of_predict_take_it(icnet_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["background", "frames", "-o", "still.png"])
    model = ["--model", str(icnet_file), "--backend", "onnxruntime"]
    steps = ["--preprocess", "resize,background:still.png,clahe:clip=2,tiles=8"]
    assert main(["predict", "frames", "-o", "out", *model, *steps]) == 0
    printed = capsys.readouterr().out
    assert "prepared by resize,background:still.png,clahe:clip=2,tiles=8; tiny was trained with resize" in printed
    assert main(["predict", "frames", "-o", "more", *model, "--preprocess", "clahe,resize"]) == 2
    assert "resize is always the first preprocessing step" in capsys.readouterr().err
