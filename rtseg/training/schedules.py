"""Learning rate schedules as plain functions, so that a resumed run needs no state for them."""

from __future__ import annotations

import math

__all__ = ["WARM_UP", "learning_rate"]

WARM_UP = 0.03
"""Share of all steps during which the learning rate rises linearly from near zero."""
_POLY_POWER = 0.9
_STEP_EPOCHS = 10
_STEP_FACTOR = 0.5
_FALL = 0.2
"""Share of all steps at the end during which the rate of ``trapezoid`` falls."""


def learning_rate(kind: str, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, relative to the highest learning rate.

    ``poly``: (1 - t)^0.9, t being the share of steps done (Chen et al., DeepLab, arXiv 1606.00915, section 4.1.1).
    ``cosine``: (1 + cos(pi t)) / 2 (Loshchilov and Hutter, SGDR, arXiv 1608.03983, equation 5, without restarts).
    ``step``: halved every 10 epochs. ``trapezoid``: constant, then 1 - sqrt(u) with u from 0 to 1 over the last 20 % of
    the steps (Hagele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", arXiv
    2405.18392, section 3): as good as cosine, and a run in its constant part can be resumed with more or fewer epochs.
    All start with a linear warm-up over 3 % of the steps (Goyal et al., arXiv
    1706.02677, section 2.2).

    Args:
        kind: ``poly``, ``cosine``, ``step`` or ``trapezoid``.
        step: of the run, from 0.
        steps: number of steps of the run; more than ``step``.
        steps_per_epoch: number of steps of one epoch.
    """
    done = step / steps
    warm_up = min(1.0, (step + 1) / max(1, round(WARM_UP * steps)))
    decays = {
        "poly": (1 - done) ** _POLY_POWER,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "trapezoid": 1 - math.sqrt(max(0.0, (done - 1 + _FALL) / _FALL)),
        "step": _STEP_FACTOR ** (step // steps_per_epoch // _STEP_EPOCHS),
    }
    return float(warm_up * decays[kind])
