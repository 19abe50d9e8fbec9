from __future__ import annotations

from pathlib import Path

import pytest
from helpers.clips import write_clip
from helpers.moving_images import SIZE, moving
from helpers.small_network import small_model

FRAMES, GOP, RATE = 60, 10, 10


def write_moving(path: Path, frames: int = FRAMES, **options: str) -> Path:
    """A clip with a key frame every second."""
    (height, width), x264 = SIZE, {"g": str(GOP), "sc_threshold": "0", "bf": "2"} | options
    images = moving(frames, (1, 2))
    return write_clip(path, range(frames), rate=RATE, size=(width, height), options=x264, images=images)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a camera that moves. Do not modify it."""
    return write_moving(tmp_path_factory.mktemp("clip") / "moving.mp4")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model file."""
    return small_model(tmp_path_factory.mktemp("model")).path


@pytest.fixture(scope="session")
def sequence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sequence model."""
    return small_model(tmp_path_factory.mktemp("model"), recurrent=True).path
