from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rtseg.cli import main
from rtseg.models import MODELS


def test_every_network_is_listed_with_parameters_and_operations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("parameters, M" in line and "GFLOPs at 384x640" in line for line in lines)
    rows = {cells[1]: cells for cells in (line.replace("│", " | ").split() for line in lines) if len(cells) == 7}
    assert set(MODELS) <= set(rows)
    assert rows["icnet"][3] == "6.7"
    assert float(rows["deeplabv3-resnet101"][5]) > 10 * float(rows["icnet"][5])


@pytest.mark.parametrize("missing", ["torch", "torchvision"])
def test_without_torch_the_networks_are_named_and_the_extra_is_said(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from rtseg.cli import main; sys.exit(main(['models']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "COLUMNS": "2000"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"networks for `rtseg train --model`: {', '.join(MODELS)}" in done.stdout
    assert "pip install 'rtseg[train]'" in done.stdout
