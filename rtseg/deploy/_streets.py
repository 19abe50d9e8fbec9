"""Drawn streets for any model: pictures that are no noise, on a machine that has no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtseg.datasets import Dataset, Read
from rtseg.frame import Labels, Picture
from rtseg.sources._street import Street
from rtseg.spec import VOID, ModelSpec

__all__ = ["UnlabelledStreets", "with_planes"]

_SIZE = (360, 600)
_STREETS, _MOMENTS, _FPS = 4, 4, 10.0
_BEGIN_S = 20.0


class UnlabelledStreets(Dataset):
    """Four drawn streets of four frames each, without truth: what a model of any classes and channels can be shown."""

    name = "drawn streets without truth"
    licence = "drawn by rtseg, no restriction"

    def __init__(self, spec: ModelSpec) -> None:
        self.classes, self.palette, self.channels = spec.classes, spec.palette, spec.channels

    def __len__(self) -> int:
        return _STREETS * _MOMENTS

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Picture, Labels]:
        """See ``Dataset.load``; every label is void."""
        street, moment = divmod(index, _MOMENTS)
        picture, labels = Street(_SIZE, seed=street).render(_BEGIN_S * (street + 1) + moment / _FPS)
        return with_planes(picture, self.channels), np.full_like(labels, VOID)

    def sequence(self, index: int) -> str | None:
        """See ``Dataset.sequence``."""
        return f"street {index // _MOMENTS}"


def with_planes(picture: Picture, channels: int) -> Picture:
    """A BGR picture as one of ``channels``: the plane beside the colours is its green turned by 180 degrees."""
    if channels == 3:
        return picture
    base = picture if channels == 4 else picture[..., 2:]
    return np.concatenate((base, picture[::-1, ::-1, 1:2]), axis=2)
