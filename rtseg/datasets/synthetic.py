"""Synthetic data sets with exact labels, drawn by ``rtseg.synthetic``: streets and interferograms."""

from __future__ import annotations

import re

import numpy as np

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.spec_string import parse_spec_string
from rtseg.datasets.splits import SPLITS
from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.synthetic import fringes
from rtseg.synthetic.street import VARIETIES, Street
from rtseg.synthetic.variants import with_extra_channel
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_image_bytes

__all__ = ["SyntheticFringes", "SyntheticStreet", "UnlabelledStreets"]

_STREET_SIZE = (360, 600)
"""(H, W) of street images, in pixels."""
_STREET_LENGTH_S = 600.0
"""Images show the first ten minutes of each drive."""
_STREET_FPS = 10.0
"""Frames per second in clips and videos."""
_STREET_SEEDS = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}
"""First seed of each split: the streets of two splits never coincide. ``--source demo`` uses seed 0."""


class SyntheticStreet(Dataset):
    """Single frames of different streets, as ``synthetic:street`` or ``synthetic:street,frames=40``.

    ``variety=roads`` draws motorways, country roads, darkness, haze and long shadows too.

    Raises:
        OptionError: an option is unknown or malformed, or the split is unknown.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "synthetic street: drawn by rtseg, no restriction"

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("synthetic", argument, fields=["street"], options=["frames", "variety"])
        _check_split(split, "street")
        self._frames = spec.integer("frames", 40, minimum=1)
        self._first_seed = _STREET_SEEDS[split]
        self._variety = spec.options.get("variety", "none")
        if self._variety not in VARIETIES:
            raise spec.error(f"variety must be {' or '.join(VARIETIES)}, got {self._variety!r}")
        kind = "" if self._variety == "none" else f" of various {self._variety}"
        self.name = f"synthetic street {split} ({self._frames} frames{kind})"

    def __len__(self) -> int:
        return self._frames

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        return self.clip(index, epoch, 1)[0]

    def clip(
        self, index: int, epoch: int, length: int, read: ReadFile = read_image_bytes
    ) -> list[tuple[Image, Labels]]:
        """See ``Dataset.clip``: ``length`` frames of one street at 10 frames per second."""
        seed = self._first_seed + epoch * self._frames + index
        street = Street(_STREET_SIZE, seed=seed, variety=self._variety)
        last_s = float(np.random.default_rng(seed).uniform(0, _STREET_LENGTH_S))
        return [street.render(max(0.0, last_s - back / _STREET_FPS)) for back in reversed(range(length))]


class SyntheticFringes(Dataset):
    """Interferograms of different surfaces, as ``synthetic:fringes`` or ``synthetic:fringes,frames=40,size=1024x1024``.

    Option ``seed=7`` draws other surfaces.

    Raises:
        OptionError: an option is unknown or malformed, or the split is unknown.
    """

    classes = fringes.CLASSES
    palette = fringes.PALETTE
    licence = "synthetic interferograms: drawn by rtseg, no restriction"

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("synthetic", argument, fields=["fringes"], options=("frames", "size", "seed"))
        _check_split(split, "fringes")
        self._frames = spec.integer("frames", 40, minimum=1)
        self._seed = spec.integer("seed", 0, minimum=0)
        size = spec.options.get("size", f"{fringes.DEFAULT_SIDE}x{fringes.DEFAULT_SIDE}")
        match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", size)
        self._size = (int(match[1]), int(match[2])) if match else (0, 0)
        low, high = fringes.SIDE_LIMITS
        if not all(low <= length <= high for length in self._size):
            raise spec.error(f"size must be HEIGHTxWIDTH, each {low} to {high}, got {size!r}")
        self._split_seed = SPLITS.index(split)
        self.name = f"synthetic fringes {split} ({self._frames} frames of {size})"

    def __len__(self) -> int:
        return self._frames

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``. The image is grey, stored as BGR."""
        grey, labels = fringes.draw_interferogram(self._size, (self._split_seed, self._seed, epoch, index))
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), dtype=np.uint8), labels


class UnlabelledStreets(Dataset):
    """Four short street videos without labels, for models with any classes and channels."""

    name = "drawn streets without labels"
    licence = "drawn by rtseg, no restriction"
    _videos, _frames_per_video = 4, 4
    _start_interval_s = 20.0
    """Video ``i`` starts ``i + 1`` intervals into the drive."""

    def __init__(self, spec: ModelSpec) -> None:
        self.classes, self.palette, self.channels = spec.classes, spec.palette, spec.channels

    def __len__(self) -> int:
        return self._videos * self._frames_per_video

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``; every label is void."""
        video, frame = divmod(index, self._frames_per_video)
        time_s = self._start_interval_s * (video + 1) + frame / _STREET_FPS
        image, labels = Street(_STREET_SIZE, seed=video).render(time_s)
        return with_extra_channel(image, self.channels), np.full_like(labels, VOID)

    def sequence(self, index: int) -> str | None:
        """See ``Dataset.sequence``."""
        return f"street {index // self._frames_per_video}"


def _check_split(split: str, kind: str) -> None:
    if split not in SPLITS:
        raise OptionError(f"synthetic:{kind} has the splits {', '.join(SPLITS)}; got {split!r}")
