"""What ``rtseg eval`` prints and writes beside the mIoU."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rtseg.camvid_classes import CLASSES
from rtseg.cli import main
from rtseg.system.opencv import cv2

DATA = "synthetic:street,frames=2"


@pytest.fixture(scope="module")
def evaluated(icnet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that one call writes."""
    folder = tmp_path_factory.mktemp("evaluated")
    files = ["--report", str(folder / "a.json"), "--confusion", str(folder / "a.csv")]
    files += ["--confusion", str(folder / "a.png")]
    assert main(["eval", "--data", DATA, "--model", str(icnet_file), *files]) == 0
    return folder


def test_the_matrix_is_the_same_in_the_figures_and_in_the_table(evaluated: Path) -> None:
    facts = json.loads((evaluated / "a.json").read_text())
    with (evaluated / "a.csv").open(newline="") as file:
        heads, *rows = list(csv.reader(file))
    assert tuple(heads[1:]) == tuple(row[0] for row in rows) == CLASSES
    assert [[int(count) for count in row[1:]] for row in rows] == facts["confusion"]
    assert sum(map(sum, facts["confusion"])) > 0


def test_the_matrix_is_drawn(evaluated: Path) -> None:
    image = cv2.imread(str(evaluated / "a.png"))
    assert min(image.shape[:2]) > 64 * len(CLASSES)


def test_boundary_scores_and_flicker_are_printed_beside_the_iou(
    icnet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.datasets.synthetic.SyntheticStreet.sequence", lambda dataset, index: "street")
    command = ["eval", "--data", DATA, "--model", str(icnet_file), "--report", str(tmp_path / "a.json")]
    assert main(command) == 0
    facts = json.loads((tmp_path / "a.json").read_text())
    lines = capsys.readouterr().out.splitlines()

    def line(word: str) -> str:
        (found,) = [line for line in lines if word in line]
        return found

    for name in CLASSES:
        for value in (facts["iou"][name], facts["boundary_f_by_class"][name]):
            assert (f"{100 * value:.2f}" if value is not None else " - ") in line(f"│ {name} ")
    assert f"{100 * facts['miou']:.2f}" in line("mIoU")
    low, high = facts["miou_interval"]
    assert low <= facts["miou"] <= high
    assert f"{100 * low:.2f}-{100 * high:.2f}" in line("95 %")
    assert line("bootstrap") == f"the interval is a bootstrap: {facts['interval_units']} resampled"
    assert f"{100 * facts['boundary_f']:.2f}" in line("mIoU")
    assert 0 < facts["flicker"] < 1
    assert f"{100 * facts['flicker']:.2f}" in line("│ flicker  ")
    assert facts["motion_flicker"] is None, "each image is another scene"
    assert " - " in line("flicker along the motion")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--confusion a.jpg", "--confusion a.jpg must end in .csv or .png"),
        ("--confusion a.csv --confusion none/a.png", "there is no folder none"),
    ],
)
def test_a_file_for_the_matrix_that_cannot_be_written_is_told_before_the_work(
    icnet_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    option: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--data", "camvid:nowhere", "--model", str(icnet_file), *option.split()]) == 2
    said = capfd.readouterr()
    assert told in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
