"""``python -m rtseg``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rtseg


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        (["--version"], 0, f"rtseg {rtseg.__version__}\n", ""),
        (["nothing"], 2, "", "rtseg: No such command 'nothing': see `rtseg --help`\n"),
    ],
)
def test_it_is_the_command_line_with_its_exit_codes(command: list[str], code: int, out: str, err: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rtseg", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
