"""Learning rate schedules as plain functions, so that a resumed run needs no state for them."""

from __future__ import annotations

import math

__all__ = ["WARM_UP", "learning_rate"]

WARM_UP = 0.03
"""Share of all steps during which the learning rate rises linearly from near zero."""
_POLY_POWER = 0.9
_STEP_EPOCHS = 10
_STEP_FACTOR = 0.5


def learning_rate(kind: str, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, relative to the highest learning rate.

    ``poly``: (1 - t)^0.9, t being the share of steps done (Chen et al., DeepLab, arXiv 1606.00915, section 4.1.1).
    ``cosine``: (1 + cos(pi t)) / 2 (Loshchilov and Hutter, SGDR, arXiv 1608.03983, equation 5, without restarts).
    ``step``: halved every 10 epochs. All start with a linear warm-up over 3 % of the steps (Goyal et al., arXiv
    1706.02677, section 2.2).

    Args:
        kind: ``poly``, ``cosine`` or ``step``.
        step: of the run, from 0.
        steps: number of steps of the run; more than ``step``.
        steps_per_epoch: number of steps of one epoch.
    """
    done = step / steps
    warm_up = min(1.0, (step + 1) / max(1, round(WARM_UP * steps)))
    decays = {
        "poly": (1 - done) ** _POLY_POWER,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "step": _STEP_FACTOR ** (step // steps_per_epoch // _STEP_EPOCHS),
    }
    return float(warm_up * decays[kind])
