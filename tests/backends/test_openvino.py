"""Tests of OpenVINO only; see ``test_every_backend.py`` for the common ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import gc, signal, sys
from rtseg import open_backend
first, second = (open_backend("openvino", sys.argv[1]) for _ in range(2))
first.close()
del first
gc.collect()
second.close()
del second
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""


def test_signals_are_heard_after_two_models_were_closed_in_the_order_of_their_opening(icnet_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(icnet_file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
