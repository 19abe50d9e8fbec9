"""How training varies its pictures: a choice without torch, so that options can be read where torch is not."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.errors import OptionError

__all__ = ["FLIPS", "Augmentation"]

FLIPS = ("horizontal", "both", "none")

_SCALES = (0.05, 20.0)
_STRETCH = 4.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What a random view of a picture may differ in from the picture as the model sees it.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    """Least and greatest factor, against the picture resized to the model's input size; drawn evenly between."""
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
