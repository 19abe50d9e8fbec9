from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtseg.cli import main
from rtseg.system.opencv import cv2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five images of 6x8 pixels and their masks."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), image)
        assert cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.tile(np.uint8([[0, 1]]), (6, 4)))
    return tmp_path


def data(root: Path) -> str:
    return f"pairs:{root}/images,{root}/masks,classes=road+car"


class TestDataCheck:
    def test_good_data_end_with_0_and_the_shares_of_the_classes(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["data", "check", data(root)]) == 0
        out = capsys.readouterr().out
        assert "no problems found" in out
        assert out.count("50.00") == 4
        assert f"{root.name} train (4 images): 4 read, 6x8" in out
        assert f"{root.name} val (1 images): 1 read, 6x8" in out

    def test_problems_end_with_1_and_are_listed_with_their_files(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (root / "masks" / "3.png").unlink()
        assert cv2.imwrite(str(root / "masks" / "2.png"), np.full((6, 8), 9, np.uint8))
        output = root / "check.json"
        assert main(["data", "check", data(root), "--report", str(output)]) == 1
        out = capsys.readouterr().out
        assert f"problem: {root}/images/3.png has no mask '3'" in out
        assert f"problem: {root}/masks/2.png holds 9 (48 pixels)" in out
        assert "2 problems found" in out
        assert len(json.loads(output.read_text())["problems"]) == 2

    def test_one_split_can_be_asked_for(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["data", "check", data(root), "--split", "val"]) == 0
        out = capsys.readouterr().out
        assert "val %" in out
        assert "train %" not in out

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["check", "nothing:here"], "--data must be KIND:PATH"),
            (["check", "voc:/nowhere"], "needs the folder VOC2012 or one above it"),
            (["check"], "see `rtseg data check --help`"),
            ([], "see `rtseg data --help`"),
        ],
    )
    def test_what_cannot_be_opened_ends_with_2_and_one_line(
        self, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["data", *arguments]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1

    def test_a_report_that_cannot_be_written_ends_with_2(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["data", "check", data(root), "--report", str(root / "no" / "check.json")]) == 2
        assert "cannot be written" in capsys.readouterr().err


class TestLabel:
    def test_boxes_of_a_file_become_masks_without_a_display(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        boxes = root / "boxes.csv"
        boxes.write_text("image,x,y,width,height\n0.png,1,1,2,3\n1.png,,,,\n")
        images, masks = root / "images", root / "made"
        assert main(["label", str(images), "--from", str(boxes), "--output", str(masks)]) == 0
        assert f"wrote 2 masks into {masks}" in capsys.readouterr().out
        boxes.rename(images / "boxes.csv")
        assert main(["data", "check", f"boxes:{images},val=1.png", "--split", "train"]) == 0
        check = f"pairs:{images},{masks},classes=background+object,missing=skip,val=1"
        assert main(["data", "check", check, "--split", "train"]) == 2
        assert main(["data", "check", check, "--split", "val"]) == 0

    def test_from_without_output_is_refused(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["label", str(root), "--from", "boxes.csv"]) == 2
        assert "--from makes masks, and no folder is given for them: give --output" in capsys.readouterr().err

    @pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="windows are shown without a server here")
    def test_without_a_display_it_says_so_and_does_not_abort(self, root: Path) -> None:
        program = "import sys; from rtseg.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", program, "label", str(root / "images")],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("rtseg: cannot open a window to draw boxes, there is no display")
        assert done.stderr.count("\n") == 1

    def test_what_is_labelled_is_counted(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lines = "".join(f"{number}.png,0,0,1,1\n" for number in range(5))
        (root / "images" / "boxes.csv").write_text(f"image,x,y,width,height\n{lines}")
        assert main(["label", str(root / "images")]) == 0, "nothing is left, so that no display is asked for"
        assert "5 of 5 images labelled, 5 boxes, in" in capsys.readouterr().out
