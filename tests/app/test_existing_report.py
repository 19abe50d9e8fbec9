"""A report never replaces an image, a mask or a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.app.existing_report import check_replaces_json, locked_results
from rtseg.cli import main
from rtseg.errors import OptionError
from rtseg.system.atomic_files import OutputExists
from rtseg.system.opencv import cv2
from rtseg.system.output_lock import OutputInUse

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


def test_results_are_locked_and_an_existing_one_is_replaced_only_if_it_may(tmp_path: Path) -> None:
    report, matrix = tmp_path / "a.json", tmp_path / "m.png"
    with locked_results(report, overwrite=False, others=[("--confusion", matrix)]):
        with pytest.raises(OutputInUse), locked_results(report, overwrite=True):
            pass
        with (
            pytest.raises(OutputInUse, match="another --confusion"),
            locked_results(None, overwrite=True, others=[("--confusion", matrix)]),
        ):
            pass
    assert not list(tmp_path.iterdir())
    matrix.write_bytes(b"an image of a user")
    said = f"^--confusion {matrix} exists: give another name, or replace it with --overwrite"
    once = locked_results(report, overwrite=False, others=[("--confusion", matrix)])
    with pytest.raises(OutputExists, match=said), once:
        pass
    with locked_results(report, overwrite=True, others=[("--confusion", matrix)]):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize(
    "command",
    [
        "eval --data x:y --report R.json",
        "eval --data x:y --confusion R.png",
        "eval --data x:y --confusion R.csv",
        "verify a.onnx b.onnx --report R.json",
        "data check x:y --report R.json",
        "doctor --report R.json",
        "bench --pipeline --report R.json",
        "bench --storage ssd --output .",
        "predict I.png --output out --report R.json",
    ],
)
def test_every_command_refuses_to_replace_a_result(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("I.png", np.zeros((32, 32, 3), np.uint8))
    for name in ("R.json", "R.png", "R.csv", "storage.json", "storage.png"):
        Path(name).write_text("{}")
    assert main(command.split()) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "exists: give another name, or replace it with --overwrite" in said
    assert Path("R.json").read_text() == Path("storage.png").read_text() == "{}"
