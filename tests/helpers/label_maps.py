"""Small label maps with everything that makes outlines hard."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Labels

__all__ = ["CLASSES", "PALETTE", "random_labels"]

CLASSES = ("Road", "Car", "Sky")
PALETTE = ((128, 64, 128), (0, 0, 142), (70, 130, 180))


def random_labels(seed: int) -> Labels:
    """Labels of three classes and void with holes and areas that meet in corners, uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 14, 2)
    small = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    return np.kron(small, np.ones((1 + seed % 3, 1 + seed % 2), np.uint8))
