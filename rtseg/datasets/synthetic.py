"""What rtseg draws itself, as training data with exact labels: streets and interferograms."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, Read
from rtseg.datasets.spec_string import parse_arguments
from rtseg.datasets.splits import SPLITS
from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.synthetic import fringes
from rtseg.synthetic.street import Street
from rtseg.system.opencv import cv2

__all__ = ["Fringes", "SyntheticStreet", "UnlabelledStreets", "with_planes"]

_SIZE = (360, 600)
_LAST_S = 600.0
"""Images show a street up to so many seconds after the camera set out."""
_CLIP_FPS = 10.0
_STREETS, _MOMENTS, _BEGIN_S = 4, 4, 20.0
"""Of ``UnlabelledStreets``: streets, frames of each, and seconds between where they begin."""
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

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        return self.clip(index, epoch, 1)[0]

    def clip(self, index: int, epoch: int, length: int, read: Read = Path.read_bytes) -> list[tuple[Image, Labels]]:
        """See ``Dataset.clip``: the same street at so many moments, ten a second."""
        seed = self._first_seed + epoch * self._frames + index
        street = Street(_SIZE, seed=seed)
        moment_s = float(np.random.default_rng(seed).uniform(0, _LAST_S))
        return [street.render(max(0.0, moment_s - back / _CLIP_FPS)) for back in reversed(range(length))]


class Fringes(Dataset):
    """``fringes`` or ``fringes,frames=40,size=1024x1024,seed=7``: interferograms, each of another surface.

    Raises:
        OptionError: an option is unknown or malformed, or the split is not known.
    """

    classes = fringes.CLASSES
    palette = fringes.PALETTE
    licence = "synthetic interferograms: drawn by rtseg, no restriction"

    def __init__(self, argument: str, split: str) -> None:
        arguments = parse_arguments("synthetic", argument, places=["fringes"], options=("frames", "size", "seed"))
        if split not in SPLITS:
            raise OptionError(f"the synthetic fringes have the splits {', '.join(SPLITS)}; got {split!r}")
        self._frames = arguments.whole("frames", 40, least=1)
        self._seed = arguments.whole("seed", 0, least=0)
        text = arguments.options.get("size", f"{fringes.SIDE}x{fringes.SIDE}")
        found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
        self._size = (int(found[1]), int(found[2])) if found else (0, 0)
        least, greatest = fringes.SIDES
        if not all(least <= length <= greatest for length in self._size):
            raise arguments.wrong(f"size must be HEIGHTxWIDTH, each {least} to {greatest}, got {text!r}")
        self._split = SPLITS.index(split)
        self.name = f"synthetic fringes {split} ({self._frames} frames of {text})"

    def __len__(self) -> int:
        return self._frames

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``. The image is grey, stored as BGR."""
        grey, labels = fringes.draw_interferogram(self._size, (self._split, self._seed, epoch, index))
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), dtype=np.uint8), labels


class UnlabelledStreets(Dataset):
    """Four drawn streets of four frames each, without truth: what a model of any classes and channels can be shown."""

    name = "drawn streets without truth"
    licence = "drawn by rtseg, no restriction"

    def __init__(self, spec: ModelSpec) -> None:
        self.classes, self.palette, self.channels = spec.classes, spec.palette, spec.channels

    def __len__(self) -> int:
        return _STREETS * _MOMENTS

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``; every label is void."""
        street, moment = divmod(index, _MOMENTS)
        image, labels = Street(_SIZE, seed=street).render(_BEGIN_S * (street + 1) + moment / _CLIP_FPS)
        return with_planes(image, self.channels), np.full_like(labels, VOID)

    def sequence(self, index: int) -> str | None:
        """See ``Dataset.sequence``."""
        return f"street {index // _MOMENTS}"


def with_planes(image: Image, channels: int) -> Image:
    """A BGR image as one of ``channels``: the plane beside the colours is its green turned by 180 degrees."""
    if channels == 3:
        return image
    base = image if channels == 4 else image[..., 2:]
    return np.concatenate((base, image[::-1, ::-1, 1:2]), axis=2)
