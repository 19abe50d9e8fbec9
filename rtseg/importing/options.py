"""Options of `rtseg import`. Importing them loads no library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["ImportOptions"]

_CLASSES, _INPUT, _OUTPUT, _PROOF = "Classes", "Input of the network", "Output of the network", "Proof"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is known about a foreign model. Everything that is not given is found out, see ``rtseg.importing.propose``.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    classes: Annotated[
        tuple[str, ...],
        Option(_CLASSES, parse="names", metavar="PRESET|FILE|NAME,...", default="from files beside the model"),
    ] = ()
    """Names of the classes, in the order of the channels: a preset (ade20k, bdd100k, camvid, cityscapes, coco,
    coco-stuff, mapillary, voc), a file with one name on each line, names, or a mixture, e.g. camvid,void."""
    palette: Annotated[str, Option(_CLASSES, metavar="PRESET|FILE", default="that of the classes")] = ""
    """Colours of the classes: a preset, or a file with R G B (0..255) on each line."""
    drop: Annotated[tuple[str, ...], Option(_CLASSES, parse="names")] = ()
    """Classes that are never predicted, e.g. void: their channels are removed."""
    mean: Annotated[str, Option(_INPUT, metavar="NUMBER,...|imagenet", default="found out")] = ""
    """Subtracted from a value after the division by --scale; one number, or one for each channel in the network's
    order."""
    std: Annotated[str, Option(_INPUT, metavar="NUMBER,...|imagenet", default="found out")] = ""
    """Divides a value after the subtraction of --mean."""
    scale: Annotated[float | None, Option(_INPUT, default="found out")] = None
    """Divides a value 0..255 first: 255 or 1."""
    bgr: Annotated[bool | None, Option(_INPUT, ("--bgr/--rgb",), default="found out")] = None
    """Order of the channels that the network expects."""
    size: Annotated[tuple[int, int] | None, Option(_INPUT, default="the network's own")] = None
    """Size of the frames, (H, W) in pixels. A network with another fixed size resizes them itself."""
    letterbox: Annotated[bool | None, Option(_INPUT, ("--letterbox/--stretch",), default="found out")] = None
    """How frames of another shape than the network's fixed size are fitted in: with grey bars, or stretched."""
    output_name: Annotated[tuple[str, ...], Option(_OUTPUT, parse="names", default="the main output")] = ()
    """The output that holds the classes. Of several, the later ones are drawn on top where they are not background."""
    threshold: Annotated[float | None, Option(_OUTPUT, default="0.5")] = None
    """Least probability of a class, for outputs with a sigmoid. Where no class reaches it, there is background."""
    output: Annotated[
        Path | None, Option(None, ("--output", "-o"), metavar="FILE.onnx", default="NAME-rtseg.onnx in this folder")
    ] = None
    """The model file to write."""
    name: Annotated[str, Option(None, default="the name of MODEL")] = ""
    """Name of the model."""
    allow_external: Annotated[Path | None, Option(_INPUT, metavar="FOLDER")] = None
    """Read weights that are stored in other files of this folder. Those beside MODEL are read anyway."""
    data: Annotated[str | None, Option(_PROOF, ("--data", "-d"), metavar="KIND:PATH")] = None
    """A few labelled images, to find out how the network wants its input and to measure the mIoU."""
    split: Annotated[str, Option(_PROOF)] = "val"
    """Split of the data."""

    images: Annotated[Path | None, Option(_PROOF, metavar="FOLDER|IMAGE", default="drawn streets")] = None
    """Images like those that the network is for. If the input values are guessed, overlays of several are drawn."""

    def __post_init__(self) -> None:
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise OptionError(f"--scale must be more than 0, e.g. 255 or 1; got {self.scale:g}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise OptionError(f"--threshold must be between 0 and 1, e.g. 0.5; got {self.threshold:g}")
        if self.output is not None and self.output.suffix != ".onnx":
            raise OptionError(f"--output must end in .onnx, got {self.output}")
        if self.size is not None and not all(16 <= side <= 8192 for side in self.size):
            raise OptionError(f"--size must be 16 to 8192 on each side, got {self.size[0]}x{self.size[1]}")
