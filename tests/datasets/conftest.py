from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage
from numpy.typing import NDArray

from rtseg.datasets.voc import PALETTE
from rtseg.image_io.indexed_png import palette_png
from rtseg.system.opencv import cv2


@pytest.fixture
def save(tmp_path: Path) -> SaveImage:
    """Writes ``image`` (grey, BGR or of 16 bits; noise of ``size`` unless given) under ``tmp_path`` / ``name``."""

    def write(name: str, image: NDArray[np.generic] | None = None, size: tuple[int, int] = (3, 4)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if image is None:
            seed = list(name.encode())
            image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), image)
        return path

    return write


@pytest.fixture
def save_palette(tmp_path: Path) -> SaveImage:
    """Writes ``labels`` as a palette PNG, in the colours of VOC unless others (256, 3) are given."""

    def write(name: str, labels: NDArray[np.uint8], colours: NDArray[np.uint8] | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if colours is None:
            colours = np.full((256, 3), (224, 224, 192), np.uint8)
            colours[: len(PALETTE)] = PALETTE
        path.write_bytes(palette_png(labels, colours))
        return path

    return write
