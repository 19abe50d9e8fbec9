from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses the C library of Linux")

CODE = """
import ctypes, sys
from rtseg.system.c_exit import at_c_exit
libc = ctypes.CDLL(None)
with at_c_exit(lambda: print("saved", flush=True), code=2):
    if sys.argv[1] == "inside":
        libc.exit(1)
    if sys.argv[1] == "error":
        raise SystemExit(5)
    print("left", flush=True)
if sys.argv[1] == "after":
    libc.exit(1)
"""


@pytest.mark.parametrize(
    ("where", "printed", "code"),
    [("inside", "saved\n", 2), ("after", "left\n", 1), ("never", "left\n", 0), ("error", "", 5)],
)
def test_the_work_is_saved_only_if_c_code_ends_the_process_within_the_block(
    where: str, printed: str, code: int
) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, where], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode, done.stderr) == (printed, code, "")
