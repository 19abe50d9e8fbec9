"""Options about teachers and unlabelled images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["TeachingOptions"]

_PANEL = "Teacher"


@dataclass(frozen=True, slots=True)
class TeachingOptions:
    """How teachers' predictions are used.

    Raises:
        OptionError: a value is out of range; the message names the option.
    """

    teacher_weight: Annotated[float, Option(_PANEL)] = 1.0
    """Weight of the teachers' soft labels in the loss."""
    temperature: Annotated[float, Option(_PANEL)] = 2.0
    """Temperature of the soft labels: higher ones tell more about the less likely classes."""
    teacher_flip: Annotated[bool, Option(_PANEL)] = False
    """Let the teachers predict mirrored images too, and use the mean: better labels, twice the time."""
    pseudo: Annotated[float | None, Option(_PANEL, default="soft labels")] = None
    """Use hard labels, on unlabelled images only, where the teachers' probability is at least this, e.g. 0.9."""
    unlabelled_frames: Annotated[int, Option(_PANEL)] = 500
    """Largest number of frames that are kept of each --unlabelled, evenly spaced if its length is known."""

    def __post_init__(self) -> None:
        for name in ("teacher_weight", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"--{name.replace('_', '-')} must be more than 0, got {getattr(self, name)}")
        if self.pseudo is not None and not 0 <= self.pseudo <= 1:
            raise OptionError(f"--pseudo must be a probability in [0, 1], got {self.pseudo:g}")
        if self.unlabelled_frames < 1:
            raise OptionError(f"--unlabelled-frames must be at least 1, got {self.unlabelled_frames}")
