"""A report never replaces an image, a mask or a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.app.existing_report import check_replaces_json
from rtseg.cli import main
from rtseg.errors import OptionError
from rtseg.system.opencv import cv2

COMMANDS = [
    ["stream", "images", "--output", "null", "--report"],
    ["stream", "images", "--output", "null", "--stats"],
    ["predict", "images", "--output", "out", "--report"],
    ["data", "check", "pairs:images,masks,classes=a:0+b:255", "--report"],
    ["eval", "--data", "pairs:images,masks,classes=a:0+b:255", "--report"],
    ["verify", "icnet-camvid", "icnet-camvid", "--data", "pairs:images,masks,classes=a:0+b:255", "--report"],
    ["bench", "--pipeline", "--report"],
    ["doctor", "--report"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[0]} {command[-1]}")
def test_every_command_refuses_to_write_over_an_image(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("images/a.png", "masks/a.png", "other.png"):
        cv2.imwrite(name, np.zeros((32, 32), np.uint8))
    before = (tmp_path / "other.png").read_bytes()
    assert main([*command, "other.png"]) == 2
    assert f"{command[-1]} other.png exists and is not JSON: give another name" in capsys.readouterr().err
    assert (tmp_path / "other.png").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b'{"a": 1}\n', b"[]\n"])
def test_json_and_empty_files_may_be_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(content)
    check_replaces_json(path)
    (tmp_path / "half.json").write_text("damaged")
    check_replaces_json(tmp_path / "half.json")
    check_replaces_json(tmp_path / "missing.json")
    check_replaces_json(tmp_path)
    check_replaces_json(None)


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(OptionError, match=r"--stats .*a\.csv exists and is not JSON"):
        check_replaces_json(tmp_path / "a.csv", "--stats")
