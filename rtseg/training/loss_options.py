"""The grammar of ``--loss``, without torch: ``ce``, ``ohem:keep=0.1``, ``ce+0.5*lovasz``."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.errors import OptionError

__all__ = ["LOSSES", "LossTerm", "parse_loss"]

LOSSES = {
    "ce": "cross-entropy, weighted by class",
    "asymmetric": "focused sigmoid loss for strongly unequal classes (Ridnik et al., ICCV 2021)",
    "ohem": "cross-entropy of the hard pixels alone (Shrivastava et al., CVPR 2016)",
    "dice": "overlap of each class (Milletari et al., 2016)",
    "lovasz": "convex stand-in for the mean IoU (Berman et al., CVPR 2018)",
}
"""What each known loss is, in a line."""

_GREATEST_FACTOR = 1000.0


@dataclass(frozen=True, slots=True)
class _Number:
    default: float
    least: float
    greatest: float


_OPTIONS: dict[str, dict[str, _Number]] = {
    "ce": {},
    "asymmetric": {
        "gamma_neg": _Number(4.0, 0.0, 20.0),
        "gamma_pos": _Number(1.0, 0.0, 20.0),
        "clip": _Number(0.05, 0.0, 0.9),
    },
    "ohem": {"threshold": _Number(0.7, 0.0, 1.0), "keep": _Number(0.0625, 0.0001, 1.0)},
    "dice": {},
    "lovasz": {},
}


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One summand of a loss."""

    name: str
    """One of ``LOSSES``."""
    factor: float
    options: dict[str, float]
    """All options that the loss has, given or not."""


def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """The summands that ``text`` names: ``[FACTOR*]NAME[:key=value,key=value]``, joined by ``+``.

    Raises:
        OptionError: a name or option is not known, or a value is malformed or out of range.
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
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise OptionError(f"--loss {text!r}: {name!r} has no option {key!r}; {has}")
        if key in given:
            raise OptionError(f"--loss {text!r}: {key} is given twice; give it once")
        given[key] = _number(value, key, known[key], text)
    scale = _number(factor, "the factor", _Number(1.0, 1 / _GREATEST_FACTOR, _GREATEST_FACTOR), text) if star else 1.0
    return LossTerm(name, scale, {key: each.default for key, each in known.items()} | given)


def _number(value: str, what: str, limits: _Number, text: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise OptionError(f"--loss {text!r}: {what} must be a number, got {value!r}") from error
    if not limits.least <= number <= limits.greatest:
        span = f"{limits.least:g} to {limits.greatest:g}"
        raise OptionError(f"--loss {text!r}: {what} must be {span}, got {value}")
    return number
