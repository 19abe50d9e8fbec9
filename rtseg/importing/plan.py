"""What is known about a foreign network: how it wants its input, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "LETTERBOX_GREY", "Fact", "Head", "NetworkInput", "Normalization", "Plan"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet, of values in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet."""

LETTERBOX_GREY = 114
"""Value of the bars, 0..255, as in ultralytics."""
Size = tuple[int, int]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was found out, for the table that the user sees."""

    what: str
    value: str
    reason: str
    is_guess: bool = False
    """Whether it may well be wrong, and nothing but looking at the result can tell."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """The input of the network."""

    name: str
    kind: int
    """One of ``onnx.TensorProto.DataType``."""
    channels: int
    """1 or 3."""
    channels_last: bool
    """(N, H, W, C) instead of (N, C, H, W)."""
    size: tuple[int | None, int | None]
    """(H, W) in pixels; None where any length is possible."""
    has_fixed_batch: bool
    """Whether the length of the batch is declared as a number."""

    def shape(self, batch: int, size: Size) -> tuple[int, int, int, int]:
        """Return the shape for a batch of images of ``size``."""
        return (batch, *size, self.channels) if self.channels_last else (batch, self.channels, *size)


@dataclass(frozen=True, slots=True)
class Normalization:
    """The network gets (x / scale - mean) / std for a value x of 0..255. Mean and std are in the network's order."""

    scale: float
    mean: Triple
    std: Triple
    bgr: bool = False

    def __str__(self) -> str:
        order = "BGR" if self.bgr else "RGB"
        division = "" if self.scale == 1 else f" / {self.scale:g}"
        if self.mean == (0, 0, 0) and self.std == (1, 1, 1):
            return f"{order}, x{division}"
        return f"{order}, (x{division} - {_short(self.mean)}) / {_short(self.std)}"


def _short(values: Triple) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:g}" for value in values) + ")"


@dataclass(frozen=True, slots=True)
class Head:
    """An output of the network that holds classes."""

    output: str
    """Name of the output."""
    kind: Literal["scores", "sigmoid", "labels"]
    """``scores``: the largest channel wins. ``sigmoid``: the largest wins if it reaches a threshold, else there is
    background. ``labels``: class IDs."""
    channels: int
    """Of the scores. 0 for labels, whose number of classes the graph does not show."""
    axis: int | None
    """Which dimension the channels are; None if there is none."""
    size: Size
    """(h, w) of the output for the network's input size, in pixels."""
    is_probability: bool = False
    """Whether the values are in [0, 1]."""
    is_float32: bool = True
    """Whether the values are in float32; others are converted first."""

    @property
    def classes(self) -> int:
        """Number of classes with the background; 0 if the graph does not show it."""
        return self.channels + (self.kind == "sigmoid")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to make a model file of a graph."""

    input: NetworkInput
    network_size: Size
    """(H, W) that the network gets."""
    frame_size: Size
    """(H, W) of the frames of the model file."""
    normalization: Normalization
    heads: tuple[Head, ...]
    classes: tuple[str, ...]
    """All classes that the heads predict, before any is dropped. Those of a later head follow, without background."""
    palette: tuple[tuple[int, int, int], ...]
    content_size: Size | None = None
    """(h, w) of the frame within the network's input, where it keeps its proportions and grey bars fill the rest; None
    where it is stretched to the whole input."""
    dropped: frozenset[int] = frozenset()
    """Classes that are never predicted; indices into ``classes``."""
    threshold: float = 0.5
    facts: tuple[Fact, ...] = field(default=())

    @property
    def bars(self) -> tuple[int, int, int, int]:
        """Height or width of the grey bars at the top, left, bottom and right, in pixels of the network's input.

        An odd pixel goes to the bottom or right, as in ultralytics.
        """
        height, width = self.content_size or self.network_size
        rows, columns = self.network_size[0] - height, self.network_size[1] - width
        return rows // 2, columns // 2, rows - rows // 2, columns - columns // 2

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the classes of the model file."""
        return tuple(index for index in range(len(self.classes)) if index not in self.dropped)
