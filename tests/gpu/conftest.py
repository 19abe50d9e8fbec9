"""Tests on an NVIDIA GPU. Without one they are skipped, or fail if ``RTSEG_REQUIRE_GPU=1`` is set."""

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
