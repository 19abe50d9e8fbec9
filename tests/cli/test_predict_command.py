"""``rtseg predict`` as a user meets it: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three images in ``in``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    Path("in").mkdir()
    for number, name in enumerate(("a [x].png", "b.jpg", "c.bmp")):
        cv2.imwrite(f"in/{name}", np.full((40 + number, 60, 3), 40 * number, np.uint8))
    return tmp_path


def written(place: str = "out") -> set[str]:
    return {path.relative_to(place).as_posix() for path in Path(place).rglob("*") if path.is_file()}


def test_the_results_and_the_report_are_written_and_told_of(
    icnet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "in", "-m", str(icnet_file), "-o", "out", "--report", "r.json"]) == 0
    stems = ("a [x]", "b", "c")
    assert written() == {f"{kind}/{stem}.png" for kind in ("masks", "colours") for stem in stems} | {
        f"overlays/{stem}.jpg" for stem in stems
    }
    said = capsys.readouterr()
    assert said.err == ""
    assert "tiny at 64x96 on openvino" in said.out
    for entry in json.loads(Path("r.json").read_text())["images"]:
        (line,) = [line for line in said.out.splitlines() if Path(entry["image"]).name in line]
        height, width = entry["size"]
        largest = max(entry["classes"], key=entry["classes"].get)
        assert f"{height}x{width}" in line
        assert f"{largest} {100 * entry['classes'][largest]:.0f} %" in line
    assert "wrote 3 masks, 3 colours, 3 overlays into out" in said.out


def test_a_glob_that_no_shell_expanded_and_a_choice_of_results(icnet_file: Path) -> None:
    command = [
        "predict",
        "in/[bc].*",
        "in/b.jpg",
        "-m",
        str(icnet_file),
        "--output",
        "out",
        "--only",
        "masks, overlays",
    ]
    assert main(command) == 0
    assert written() == {"masks/b.png", "masks/c.png", "overlays/b.jpg", "overlays/c.jpg"}


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_every_backend_can_be_asked_for(icnet_file: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--backend", backend, "--precision", "fp32", "--size", "96x64", "--device", "cpu", "--alpha", "0.3"]
    assert main(["predict", "in/b.jpg", "-m", str(icnet_file), "-o", "out", *options]) == 0
    assert f"tiny at 96x64 on {backend} (fp32, CPU)" in capsys.readouterr().out


def test_a_damaged_image_is_named_and_ends_it_with_2_when_the_others_are_done(
    icnet_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/b.jpg").write_bytes(Path("in/b.jpg").read_bytes()[:200])
    assert main(["predict", "in", "-m", str(icnet_file), "-o", "out", "--only", "masks"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("rtseg: 1 of 3 images cannot be used: in/b.jpg (damaged")
    assert said.err.count("\n") == 1
    assert "wrote 2 masks into out" in said.out
    (line,) = [line for line in said.out.splitlines() if "b.jpg" in line]
    assert "damaged" in line
    assert written() == {"masks/a [x].png", "masks/c.png"}


def test_of_many_images_the_first_are_listed(icnet_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        cv2.imwrite(f"many{number}.png", np.zeros((8, 8, 3), np.uint8))
    assert main(["predict", "many*.png", "-m", str(icnet_file), "-o", "out", "--only", "masks"]) == 0
    said = capsys.readouterr().out
    assert "many19.png" in said
    assert "many20.png" not in said
    assert "and 5 more images: --report FILE keeps the shares of all" in said


def test_ctrl_c_leaves_whole_results_and_130(
    icnet_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rtseg.app.predict import PredictRun

    label = PredictRun._predict_labels

    def interrupted(run: PredictRun, image: np.ndarray) -> np.ndarray:
        if image.shape[0] == 42:
            raise KeyboardInterrupt
        return label(run, image)

    monkeypatch.setattr(PredictRun, "_predict_labels", interrupted)
    code = main(["predict", "in", "-m", str(icnet_file), "-o", "out", "--only", "masks", "--report", "r.json"])
    assert code == 130
    said = capsys.readouterr()
    assert "stopped after 2 of 3 images" in said.out
    assert said.err == ""
    assert written() == {"masks/a [x].png", "masks/b.png"}
    assert len(json.loads(Path("r.json").read_text())["images"]) == 2


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("predict", "Missing argument 'IMAGES"),
        ("predict in", "Missing option '--output'"),
        ("predict none.png -o out", "none.png matches no image"),
        ("predict in/*.tif -o out", "in/*.tif matches no image"),
        ("predict empty -o out", "the folder empty contains no image"),
        ("predict notes.txt -o out", "1 of 1 images cannot be used: no model and no image"),
        ("predict in -o out -m none", "no model 'none'"),
        ("predict in -o out -m notes.txt", "notes.txt is not an ONNX file"),
        ("predict in -o notes.txt", "notes.txt is a file"),
        ("predict in -o /proc/out", "--output /proc/out cannot be written"),
        ("predict in -o out --only colors", "--only must name some of masks, colours, overlays"),
        ("predict in -o out --only ,", "--only must name some of masks, colours, overlays"),
        ("predict in -o out --alpha 1.5", "alpha must be in [0, 1]"),
        ("predict in -o out --alpha much", "--alpha"),
        ("predict in -o out --size 64", "--size must be HEIGHTxWIDTH"),
        ("predict in -o out -m MODEL --size 100x100", "multiples of 32"),
        ("predict in -o out --backend caffe", "unknown backend 'caffe'"),
        ("predict in -o out --precision fp64", "--precision must be one of"),
        ("predict in -o out --device tpu", "--device must be one of"),
        ("predict in -o out --report empty", "--report empty is a folder"),
        ("predict in -o out --report none/r.json", "there is no folder none"),
        ("predict in -o out --report in/b.jpg", "--report in/b.jpg is an image"),
    ],
)
def test_a_mistake_is_one_line_and_code_2_and_nothing_is_written(
    icnet_file: Path, folder: Path, capfd: pytest.CaptureFixture[str], command: str, told: str
) -> None:
    Path("empty").mkdir()
    Path("notes.txt").write_text("no model and no image")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(command.replace("MODEL", str(icnet_file)).split()) == 2
    said = capfd.readouterr()
    assert said.err.startswith("rtseg: ")
    assert said.err.count("\n") == 1
    assert told in said.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not Path("out").exists()
