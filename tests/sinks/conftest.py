from __future__ import annotations

import numpy as np
import pytest

from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec("tiny", ("Road", "Car", "Sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)), (64, 64))


@pytest.fixture
def frame() -> Frame:
    return Frame(np.zeros((48, 64, 3), np.uint8), 7, 0.28, 0.0)


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((48, 64), np.uint8)
    labels[:12], labels[12:24] = 2, 1
    return labels
