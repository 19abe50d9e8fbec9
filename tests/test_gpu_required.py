"""That the tests for a GPU are not forgotten where one is promised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.system.nvidia import find_gpu

GPU_TESTS = Path(__file__).parent / "gpu"
ONE = "test_an_engine_for_batches_takes_every_length"


@pytest.mark.parametrize(
    ("required", "code", "told"), [("", 0, "1 skipped"), ("1", 1, "RTSEG_REQUIRE_GPU=1, but CUDA")]
)
def test_without_a_gpu_its_tests_are_skipped_and_fail_where_one_is_required(
    required: str, code: int, told: str
) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", str(GPU_TESTS), "-k", ONE],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "RTSEG_REQUIRE_GPU": required},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout
