from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.app.doctor import Finding
from rtseg.cli import main

FOUND = [
    Finding("runtime", "openvino", "2026.1"),
    Finding("runtime", "torch", "not installed", good=False, remedy="pip install 'rtseg[train]' trains"),
    Finding("camera", "", "none", good=False, remedy="pip install 'rtseg[train]' trains"),
]


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.app.doctor.examine", lambda: FOUND)


def test_every_finding_has_a_line_and_every_remedy_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["runtime", "openvino", "2026.1"],
        ["torch", "not", "installed"],
        ["camera", "none"],
        [],
        ["for", "more:"],
        ["pip", "install", "'rtseg[train]'", "trains"],
    ]


@pytest.mark.parametrize("report", ["-", "machine.json"])
def test_as_json_they_have_their_fields(
    report: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--report", report]) == 0
    printed = capsys.readouterr().out
    assert ("for more:" in printed) == (report != "-")
    facts = json.loads(printed if report == "-" else Path(report).read_text())
    assert facts["findings"][1] == {
        "topic": "runtime",
        "name": "torch",
        "text": "not installed",
        "good": False,
        "remedy": "pip install 'rtseg[train]' trains",
    }


def test_a_machine_without_a_gpu_is_examined_without_torch_and_without_a_runtime() -> None:
    code = (
        "import sys; import rtseg.backends.tensorrt.library; import rtseg.backends.select as auto\n"
        "rtseg.backends.tensorrt.library.driver_version = auto.driver_version = lambda: None\n"
        "from rtseg.cli import main; assert main(['doctor']) == 0\n"
        "heavy = {'torch', 'openvino', 'onnxruntime', 'tensorrt_rtx'}\n"
        "print('loaded:', *heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
