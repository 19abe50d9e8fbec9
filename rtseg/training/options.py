"""All options of a training run. The run folder stores them as ``config.json``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.image_io.options import ReadOptions
from rtseg.option import Group, Option
from rtseg.training.loss_options import parse_loss
from rtseg.training.teaching_options import TeachingOptions

__all__ = ["CLASS_WEIGHTS", "FLIPS", "MIXES", "Augmentation", "TrainOptions", "parse_mix"]

CLASS_WEIGHTS = ("none", "enet", "median")
FLIPS = ("horizontal", "both", "none")
MIXES = ("cutmix", "classmix")
_SCALE_LIMITS = (0.05, 20.0)
_MAX_STRETCH = 4.0
_MAX_SEED = (1 << 31) - 1
_CHOICES = {
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("poly", "cosine", "step", "trapezoid"),
    "amp": ("bf16", "fp16", "none"),
    "class_weights": CLASS_WEIGHTS,
    "device": ("auto", "cpu", "cuda"),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges of the random changes to training images.

    Raises:
        OptionError: a value is out of range; the message names the option.
    """

    scale: Annotated[tuple[float, float], Option("Augmentation")] = (0.5, 2.0)
    """Smallest and largest random scale, as a factor on the image resized to the model's input size."""
    stretch: Annotated[float, Option("Augmentation")] = 1.25
    """Largest change of the aspect ratio, as a factor drawn log-uniformly from [1 / stretch, stretch]; 1 keeps it."""
    flips: Annotated[str, Option("Augmentation", choices=FLIPS)] = "horizontal"
    """Random mirroring. ``horizontal``: swap left and right in half of the views. ``both``: also top and bottom,
    independently."""
    rotation: Annotated[float, Option("Augmentation")] = 0.0
    """Largest random rotation in degrees, up to 180; the angle is drawn from [-rotation, rotation]."""
    colour: Annotated[bool, Option("Augmentation")] = True
    """Change brightness, contrast, saturation and hue, and make some views grey or blurred."""

    cameras: Annotated[bool, Option("Augmentation")] = False
    """Imitate other cameras and weather: exposure, gamma, white balance, shadows, haze, rain, blur, noise and JPEG."""
    paste: Annotated[float, Option("Augmentation")] = 0.0
    """Share of the views into which objects of rare classes are pasted from the next view of the batch."""
    mix: Annotated[str, Option("Augmentation", metavar="cutmix|classmix:SHARE", default="none")] = ""
    """Mix a share of the views with another one of the batch: a rectangle of half the area, or half of its classes."""

    def __post_init__(self) -> None:
        (low, high), (lowest, highest) = self.scale, _SCALE_LIMITS
        if not lowest <= low <= high <= highest:
            raise OptionError(
                f"--scale must be two factors between {lowest:g} and {highest:g}, the smaller first, "
                f"e.g. 0.5 2; got {low:g} {high:g}"
            )
        if not 1 <= self.stretch <= _MAX_STRETCH:
            raise OptionError(f"--stretch must be 1 (keep the aspect ratio) to {_MAX_STRETCH:g}, got {self.stretch:g}")
        if self.flips not in FLIPS:
            raise OptionError(f"--flips must be one of {', '.join(FLIPS)}, got {self.flips!r}")
        if not 0 <= self.rotation <= 180:
            raise OptionError(f"--rotation must be 0 to 180 degrees, got {self.rotation:g}")
        if not 0 <= self.paste <= 1:
            raise OptionError(f"--paste must be a share in [0, 1], got {self.paste:g}")
        if self.mix:
            parse_mix(self.mix)


def parse_mix(text: str) -> tuple[str, float]:
    """Parse ``cutmix:SHARE`` or ``classmix:SHARE`` of ``--mix``; the share is in [0, 1].

    Raises:
        OptionError: the text has another form.
    """
    name, _, share = text.partition(":")
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    if name not in MIXES or not 0 <= number <= 1:
        raise OptionError(f"--mix must be cutmix:SHARE or classmix:SHARE with a share in [0, 1], got {text!r}")
    return name, number


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Options of a training run.

    Raises:
        OptionError: a value is out of range; the message names the option.
    """

    data: Annotated[tuple[str, ...], Option("Data", ("--data", "-d"), metavar="KIND:PATH")]
    """Training data, e.g. camvid:FOLDER or synthetic:street,frames=40. Can be repeated; all must have the same
    classes."""
    output: Annotated[Path, Option(None, ("--output", "-o"), metavar="FOLDER")]
    """Run folder: configuration, metrics, TensorBoard log, best and last checkpoint."""
    val_data: Annotated[str | None, Option("Data", metavar="KIND:PATH", default="the first --data")] = None
    """Validation data."""
    split_by: Annotated[str | None, Option("Data", metavar="video|folder|N-fold", default="the splits of the data")] = (
        None
    )
    """Take the validation images from the training images of the first --data: one video, one folder, or one of N
    parts."""
    map_classes: Annotated[tuple[str, ...], Option("Data", metavar="CLASS=DATA,...", parse="names")] = ()
    """Which class of the first --data a class of other data is, e.g. movable=Car,movable=Pedestrian; void=DATA leaves
    it out, as do classes that the first lack."""
    fold: Annotated[str, Option("Data", metavar="NUMBER or NAME")] = "0"
    """Which video, folder or part is for validation, with --split-by."""
    teacher: Annotated[tuple[str, ...], Option("Teacher", metavar="FILE,FILE,...", parse="names")] = ()
    """Checkpoints, model files or bundled models whose mean prediction to learn too."""
    unlabelled: Annotated[tuple[str, ...], Option("Teacher", metavar="SOURCE")] = ()
    """Video, camera or images without labels, to learn from the teachers on. Can be repeated."""
    teaching: Annotated[TeachingOptions, Group()] = field(default_factory=TeachingOptions)
    model: Annotated[str, Option("Network", ("--model", "-m"))] = "icnet"
    """Network to train; `rtseg models` lists them."""
    pretrained: Annotated[bool, Option("Network")] = False
    """Start from the weights that torchvision publishes."""
    channels: Annotated[int | None, Option("Network", default="3, or as --model says")] = None
    """Image channels: 1 (grey), 2, 3 (colour) or 4."""
    init: Annotated[Path | None, Option("Network", metavar="FILE")] = None
    """Checkpoint, model file or bundled model whose weights to start from."""
    size: Annotated[tuple[int, int], Option("Network")] = (384, 640)
    """Input size of the model, (H, W) in pixels: it is validated, exported and run at this size."""
    crop: Annotated[tuple[int, int], Option("Augmentation")] = (320, 448)
    """Size of training crops, (H, W) in pixels."""
    clip: Annotated[int, Option("Augmentation")] = 4
    """Frames of one training example, for recurrent networks."""
    preprocess: Annotated[tuple[str, ...], Option("Augmentation", parse="steps")] = ()
    """Steps before augmentation and before inference, e.g. resize,background:FILE,clahe:clip=2,tiles=8. The model file
    will name them."""
    augmentation: Annotated[Augmentation, Group()] = field(default_factory=Augmentation)
    epochs: Annotated[int, Option("Optimization")] = 150
    """Passes over the training data."""
    batch: Annotated[int, Option("Optimization")] = 8
    """Examples per step, over all processes."""
    loss: Annotated[str, Option("Optimization")] = "ce"
    """ce, ce:smoothing=0.05, asymmetric, ohem, dice, lovasz, or a sum such as ce+0.5*dice."""
    loss_weights: Annotated[tuple[float, ...] | None, Option("Optimization", default="the network's own")] = None
    """Weight of each output of the network in the loss, the main output first, e.g. 1/0.4/0.4."""
    class_weights: Annotated[str, Option("Optimization", choices=_CHOICES["class_weights"])] = "enet"
    """Weighting of rare classes in the loss."""
    class_weight_power: Annotated[float, Option("Optimization")] = 1.0
    """Exponent of the class weights: 0.5 makes them weaker."""
    optimizer: Annotated[str, Option("Optimization", choices=_CHOICES["optimizer"])] = "adamw"
    """Optimizer; sgd has Nesterov momentum 0.9."""
    lr: Annotated[float, Option("Optimization")] = 1e-3
    """Highest learning rate of the schedule."""
    schedule: Annotated[str, Option("Optimization", choices=_CHOICES["schedule"])] = "poly"
    """How the learning rate falls during training."""
    weight_decay: Annotated[float, Option("Optimization")] = 0.01
    """Weight decay of the optimizer."""
    ema: Annotated[float, Option("Optimization")] = 0.998
    """Decay per step of the averaged weights, which are validated and exported."""
    amp: Annotated[str, Option("Machine", choices=_CHOICES["amp"])] = "bf16"
    """Number format of mixed-precision training."""
    eval_every: Annotated[int, Option("Optimization")] = 5
    """Number of epochs between validations; the last epoch is always validated."""
    seed: Annotated[int, Option("Optimization")] = 0
    """Seed of all random numbers."""
    workers: Annotated[int, Option("Machine")] = 2
    """Processes that load and augment images, for each training process."""
    reading: Annotated[ReadOptions, Group(without=("decoder", "on_error", "max_pixels", "bits", "reduce"))] = field(
        default_factory=ReadOptions
    )
    """How the files of the data are read."""
    device: Annotated[str, Option("Machine", choices=_CHOICES["device"])] = "auto"
    """Device to train on."""
    resume: Annotated[bool, Option()] = False
    """Continue from the last checkpoint in the run folder."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{_flag(name)} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "lr", "eval_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{_flag(name)} must be more than 0, got {getattr(self, name)}")
        parse_loss(self.loss)
        if self.batch < 2:
            raise OptionError(f"--batch must be at least 2 for batch norm, got {self.batch}")
        if self.clip < 2:
            raise OptionError(f"--clip must be at least 2 frames, got {self.clip}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise OptionError(f"--seed must be 0 to {_MAX_SEED}, got {self.seed}")
        if not 0 <= self.ema < 1:
            raise OptionError(f"--ema must be in [0, 1), got {self.ema}")
        for name in ("workers", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{_flag(name)} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.class_weight_power <= 2:
            raise OptionError(f"--class-weight-power must be 0 to 2, got {self.class_weight_power:g}")
        if self.channels not in (None, 1, 2, 3, 4):
            raise OptionError(f"--channels must be 1 to 4, got {self.channels}")
        weights = self.loss_weights
        if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
            raise OptionError(f"--loss-weights must not be negative or all 0, got {'/'.join(map(str, weights))}")
        if self.split_by is not None:
            _check_split_by(self.split_by)
            if self.val_data is not None:
                raise OptionError("--split-by and --val-data both define the validation images: give only one")
        if self.pretrained and self.init is not None:
            raise OptionError("--pretrained and --init both set the initial weights: give only one")
        for option, value in (("--unlabelled", self.unlabelled), ("--pseudo", self.teaching.pseudo is not None)):
            if value and not self.teacher:
                raise OptionError(f"{option} needs a network that labels: give --teacher")
        if self.teaching.pseudo is not None and not self.unlabelled:
            raise OptionError("--pseudo labels unlabelled images: give --unlabelled")
        if not self.data:
            raise OptionError("training needs --data KIND:PATH")


def _check_split_by(text: str) -> None:
    parts = text.removesuffix("-fold")
    if text not in ("video", "folder") and not (text.endswith("-fold") and parts.isdecimal() and int(parts) >= 2):
        raise OptionError(f"--split-by must be video, folder or e.g. 5-fold, got {text!r}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
