from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public test data that lies beside a developer's checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the shared test data in {SHARED}")
    return SHARED
