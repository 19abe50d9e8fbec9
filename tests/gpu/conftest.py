"""Tests for a machine with an NVIDIA GPU: skipped without one, failing where ``RTSEG_REQUIRE_GPU=1`` promises one."""

from __future__ import annotations

import os

import pytest

from rtseg.system.nvidia import Gpu, find_gpu


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Gpu:
    """The GPU of this machine."""
    found = find_gpu()
    if found is not None:
        return found
    if os.environ.get("RTSEG_REQUIRE_GPU") == "1":
        pytest.fail("RTSEG_REQUIRE_GPU=1, but CUDA finds no GPU here")
    pytest.skip("needs an NVIDIA GPU")
