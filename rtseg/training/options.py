"""All choices of a training run, in one frozen object that the run folder keeps as ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["TrainOptions"]


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
    init: Path | None = None
    """A checkpoint whose averaged weights the network begins with; fresh ones unless given."""
    size: tuple[int, int] = (384, 640)
    """(H, W) at which the network is evaluated, in pixels."""
    crop: tuple[int, int] = (320, 448)
    """(H, W) of training crops, in pixels."""
    epochs: int = 150
    batch: int = 8
    optimizer: str = "adamw"
    """``adamw`` or ``sgd``."""
    lr: float = 1e-3
    """Highest learning rate; falls as (1 - t)^0.9 after a warm-up."""
    weight_decay: float = 0.01
    class_weights: str = "enet"
    """``none``, ``enet`` or ``median``."""
    ema: float = 0.998
    """Decay per step of the averaged weights, which are the ones evaluated and exported."""
    amp: str = "bf16"
    """``bf16`` or ``none``: precision of autocast."""
    eval_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    seed: int = 0
    workers: int = 2
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    resume: bool = False
    """Go on from ``last.pt`` in the run folder."""

    def __post_init__(self) -> None:
        for option, value, allowed in (
            ("--optimizer", self.optimizer, ("adamw", "sgd")),
            ("--amp", self.amp, ("bf16", "none")),
            ("--class-weights", self.class_weights, ("none", "enet", "median")),
            ("--device", self.device, ("auto", "cpu", "cuda")),
        ):
            if value not in allowed:
                raise OptionError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")
        for option, number in (
            ("--epochs", self.epochs),
            ("--lr", self.lr),
            ("--eval-every", self.eval_every),
        ):
            if not number > 0:
                raise OptionError(f"{option} must be more than 0, got {number}")
        if self.batch < 2:
            raise OptionError(f"--batch must be at least 2 (batch norm needs company), got {self.batch}")
        if not 0 <= self.ema < 1:
            raise OptionError(f"--ema must be in [0, 1), got {self.ema}")
        if self.workers < 0:
            raise OptionError(f"--workers must not be negative, got {self.workers}")
        if not self.data:
            raise OptionError("training needs --data KIND:PATH")
