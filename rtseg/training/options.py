"""All choices of a training run, in one frozen object that the run folder keeps as ``config.json``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from rtseg.errors import OptionError
from rtseg.image_io.options import ReadOptions
from rtseg.training.loss_options import parse_loss

__all__ = ["FLIPS", "Augmentation", "TrainOptions"]

FLIPS = ("horizontal", "both", "none")
_SCALES = (0.05, 20.0)
_STRETCH = 4.0
_SEEDS = 1 << 31
_CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("poly", "cosine", "step"),
    "amp": ("bf16", "fp16", "none"),
    "class_weights": ("none", "enet", "median"),
    "device": ("auto", "cpu", "cuda"),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What a random view of an image may differ in from the image as the model sees it.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    """Least and greatest factor, against the image resized to the model's input size; drawn evenly between."""
    stretch: float = 1.25
    """The aspect ratio is multiplied by a factor drawn log-evenly between 1 / stretch and stretch; 1 keeps it."""
    flips: str = "horizontal"
    """``horizontal``: left and right change places in half of the views; ``both``: besides, and independently, top and
    bottom; or ``none``."""
    rotation: float = 0.0
    """In degrees: the angle is drawn evenly from [-rotation, rotation]."""
    colour: bool = True
    """Whether brightness, contrast, saturation and hue are jittered and some views are grey or blurred."""

    def __post_init__(self) -> None:
        least, greatest = self.scale
        if not _SCALES[0] <= least <= greatest <= _SCALES[1]:
            low, high = _SCALES
            raise OptionError(
                f"--scale must be two factors between {low:g} and {high:g}, the smaller first, "
                f"e.g. 0.5 2; got {least:g} {greatest:g}"
            )
        if not 1 <= self.stretch <= _STRETCH:
            raise OptionError(f"--stretch must be 1 (keep the aspect ratio) to {_STRETCH:g}, got {self.stretch:g}")
        if self.flips not in FLIPS:
            raise OptionError(f"--flips must be one of {', '.join(FLIPS)}, got {self.flips!r}")
        if not 0 <= self.rotation <= 180:
            raise OptionError(f"--rotation must be 0 to 180 degrees, got {self.rotation:g}")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train, on what, and how.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    data: tuple[str, ...]
    """``KIND:PATH`` of each training set; all must have the same classes."""
    output: Path
    """The run folder."""
    val_data: str | None = None
    """``KIND:PATH`` of the validation set; the first of ``data`` unless given."""
    model: str = "icnet"
    pretrained: bool = False
    """Whether the network begins with the weights that torchvision publishes."""
    channels: int | None = None
    """Of the images, 1 to 4; what the text of ``model`` says, or 3, unless given."""
    init: Path | None = None
    """A checkpoint whose weights the network begins with; fresh ones unless given."""
    size: tuple[int, int] = (384, 640)
    """(H, W) of the model's input, in pixels: the network is validated, exported and run at it."""
    crop: tuple[int, int] = (320, 448)
    """(H, W) of training crops, in pixels."""
    clip: int = 4
    """Frames of a training example of a network that remembers; any other network sees single images."""
    preprocess: tuple[str, ...] = ()
    """Steps before augmentation and before inference, which the model file will name; see ``rtseg.preprocess``."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 150
    batch: int = 8
    """Examples of one step, of all processes together."""
    loss: str = "ce"
    """Of every output; see ``rtseg.training.objective.make_loss``."""
    loss_weights: tuple[float, ...] | None = None
    """Weight of each output of the network in the loss, the main one first; the network's own unless given."""
    class_weights: str = "enet"
    """``none``, ``enet`` or ``median``."""
    optimizer: str = "adamw"
    """``adamw``, ``adam`` or ``sgd`` (with Nesterov momentum 0.9)."""
    lr: float = 1e-3
    """Highest learning rate."""
    schedule: str = "poly"
    """How it falls: ``poly``, ``cosine`` or ``step``; see ``rtseg.training.schedules``."""
    weight_decay: float = 0.01
    ema: float = 0.998
    """Decay per step of the averaged weights, which are the ones validated and exported."""
    amp: str = "bf16"
    """``bf16``, ``fp16`` or ``none``: precision of autocast."""
    eval_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    seed: int = 0
    workers: int = 2
    """Processes that load and augment, beside each training process."""
    reading: ReadOptions = field(default_factory=ReadOptions)
    """How the files of the data are read: storage, cache, bounds; its other fields are of no meaning here."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    resume: bool = False
    """Go on from the last checkpoint in the run folder."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{_flag(name)} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "lr", "eval_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{_flag(name)} must be more than 0, got {getattr(self, name)}")
        parse_loss(self.loss)
        if self.batch < 2:
            raise OptionError(f"--batch must be at least 2 (batch norm needs company), got {self.batch}")
        if self.clip < 2:
            raise OptionError(f"--clip must be at least 2 frames, got {self.clip}")
        if not 0 <= self.seed < _SEEDS:
            raise OptionError(f"--seed must be 0 to {_SEEDS - 1}, got {self.seed}")
        if not 0 <= self.ema < 1:
            raise OptionError(f"--ema must be in [0, 1), got {self.ema}")
        for name in ("workers", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{_flag(name)} must not be negative, got {getattr(self, name)}")
        if self.channels not in (None, 1, 2, 3, 4):
            raise OptionError(f"--channels must be 1 to 4, got {self.channels}")
        weights = self.loss_weights
        if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
            raise OptionError(f"--loss-weights must not be negative, nor all 0, got {'/'.join(map(str, weights))}")
        if self.pretrained and self.init is not None:
            raise OptionError("--pretrained and --init both say what to begin with: give one of them")
        if not self.data:
            raise OptionError("training needs --data KIND:PATH")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
