"""A tiny data set in the form of comma10k."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtseg.system.opencv import cv2

COLOURS = {"road": (64, 32, 32), "lane": (255, 0, 0), "rest": (128, 128, 96), "movable": (0, 255, 102)}
"""RGB, as comma10k has them."""


def comma10k(folder: Path, count: int = 12) -> Path:
    """A tiny set with the folders, names and colours of comma10k."""
    for part in ("imgs", "masks"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((96, 128, 3), np.uint8)
        mask[:48], mask[48:] = COLOURS["rest"], COLOURS["road"]
        mask[60:90, 60:66], mask[30:56, 20:50] = COLOURS["lane"], COLOURS["movable"]
        name = f"{number:04}_0c5c849415c7dba2_2018-08-11--22-51-28_{number}.png"
        cv2.imwrite(str(folder / "masks" / name), mask[..., ::-1])
        image = np.clip(mask.astype(int) + random.normal(0, 9, mask.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "imgs" / name), image[..., ::-1])
    return folder
