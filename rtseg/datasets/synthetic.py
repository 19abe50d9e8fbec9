"""Frames of the street that rtseg draws, as training data: exact labels, another place and weather every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtseg.camvid import CLASSES, PALETTE
from rtseg.datasets import Dataset, Read
from rtseg.datasets._arguments import parse_arguments
from rtseg.errors import OptionError
from rtseg.frame import Labels, Picture

__all__ = ["SyntheticStreet"]

_SIZE = (360, 600)
_LAST_S = 600.0
"""Pictures show a street up to so many seconds after the camera set out."""
_CLIP_FPS = 10.0
_SEEDS = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
"""Streets of the splits never meet. ``--source demo`` is seed 0 and in none of them."""


class SyntheticStreet(Dataset):
    """``street`` or ``street,frames=40``: so many frames, each of a street of its own.

    Raises:
        OptionError: an option is unknown, a malformed count, or an unknown split.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "synthetic street: drawn by rtseg, no restriction"

    def __init__(self, argument: str, split: str) -> None:
        arguments = parse_arguments("synthetic", argument, places=["street"], options=["frames"])
        if split not in _SEEDS:
            raise OptionError(f"the synthetic street has the splits {', '.join(_SEEDS)}; got {split!r}")
        self._frames = arguments.whole("frames", 40, least=1)
        self._first_seed = _SEEDS[split]
        self.name = f"synthetic street {split} ({self._frames} frames)"

    def __len__(self) -> int:
        return self._frames

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Picture, Labels]:
        """See ``Dataset.load``."""
        return self.clip(index, epoch, 1)[0]

    def clip(self, index: int, epoch: int, length: int, read: Read = Path.read_bytes) -> list[tuple[Picture, Labels]]:
        """See ``Dataset.clip``: the same street at so many moments, ten a second."""
        from rtseg.sources._street import Street

        seed = self._first_seed + epoch * self._frames + index
        street = Street(_SIZE, seed=seed)
        moment_s = float(np.random.default_rng(seed).uniform(0, _LAST_S))
        return [street.render(max(0.0, moment_s - back / _CLIP_FPS)) for back in reversed(range(length))]
