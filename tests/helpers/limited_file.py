"""Writes results until a file may not grow, as on a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["write_until_full"]

_SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np
from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks import open_sinks
(sink,) = open_sinks(ModelSpec("tiny", ("Road",), ((1, 2, 3),), (8, 8)), **{sys.argv[1]: Path(sys.argv[2])})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for index in range(100):
        sink.write(Frame(np.zeros((8, 8, 3), np.uint8), index, 0.0, 0.0), np.zeros((8, 8), np.uint8), None)
except SinkError as error:
    print(error)
sink.close()
"""


def write_until_full(kind: str, path: Path) -> str:
    """Write up to 100 frames to an output of ``open_sinks`` whose file may have 1000 bytes; return what is printed.

    It runs in a process of its own: the limit holds for all files of a process.
    """
    command = [sys.executable, "-c", _SCRIPT, kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
