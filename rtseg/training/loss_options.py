"""Parser for ``--loss``, e.g. ``ce``, ``ohem:keep=0.1`` or ``ce+0.5*lovasz``. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.errors import OptionError

__all__ = ["LOSSES", "LossTerm", "parse_loss"]

LOSSES = {
    "ce": "cross-entropy, weighted by class",
    "asymmetric": "focused sigmoid loss for strongly imbalanced classes (Ridnik et al., ICCV 2021)",
    "ohem": "cross-entropy of the hard pixels only (Shrivastava et al., CVPR 2016)",
    "dice": "overlap of each class (Milletari et al., 2016)",
    "lovasz": "convex surrogate of the mean IoU (Berman et al., CVPR 2018)",
}
"""Name and one-line description of each loss."""

_MAX_FACTOR = 1000.0


@dataclass(frozen=True, slots=True)
class _Range:
    default: float
    low: float
    high: float


_OPTIONS: dict[str, dict[str, _Range]] = {
    "ce": {"smoothing": _Range(0.0, 0.0, 0.5)},
    "asymmetric": {
        "gamma_neg": _Range(4.0, 0.0, 20.0),
        "gamma_pos": _Range(1.0, 0.0, 20.0),
        "clip": _Range(0.05, 0.0, 0.9),
    },
    "ohem": {"threshold": _Range(0.7, 0.0, 1.0), "keep": _Range(0.0625, 0.0001, 1.0)},
    "dice": {},
    "lovasz": {},
}


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One term of a loss."""

    name: str
    """One of ``LOSSES``."""
    factor: float
    options: dict[str, float]
    """All options of the loss, given or default."""


def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """Parse the terms of a loss: ``[FACTOR*]NAME[:key=value,key=value]``, joined by ``+``.

    Raises:
        OptionError: a name or option is unknown, or a value is malformed or out of range.
    """
    return tuple(_parse_term(part, text) for part in text.split("+"))


def _parse_term(part: str, text: str) -> LossTerm:
    factor, star, rest = part.rpartition("*")
    name, colon, arguments = rest.partition(":")
    if name not in LOSSES:
        raise OptionError(f"--loss {text!r}: there is no loss {name!r}; known are {', '.join(LOSSES)}")
    known = _OPTIONS[name]
    given: dict[str, float] = {}
    for pair in arguments.split(",") if colon else ():
        key, _, value = pair.partition("=")
        if key not in known:
            options = f"its options are {', '.join(known)}" if known else "it has none"
            raise OptionError(f"--loss {text!r}: {name!r} has no option {key!r}; {options}")
        if key in given:
            raise OptionError(f"--loss {text!r}: {key} is given twice; give it once")
        given[key] = _parse_number(value, key, known[key], text)
    scale = _parse_number(factor, "the factor", _Range(1.0, 1 / _MAX_FACTOR, _MAX_FACTOR), text) if star else 1.0
    return LossTerm(name, scale, {key: limits.default for key, limits in known.items()} | given)


def _parse_number(value: str, name: str, limits: _Range, text: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise OptionError(f"--loss {text!r}: {name} must be a number, got {value!r}") from error
    if not limits.low <= number <= limits.high:
        raise OptionError(f"--loss {text!r}: {name} must be {limits.low:g} to {limits.high:g}, got {value}")
    return number
