"""Which image belongs to which split, where the data themselves do not say.

The rule: images are ranked by the SHA-256 of their key (the name without suffix). The first are ``val`` (a fifth,
at least one), the next are ``test`` (none unless asked for), the rest is ``train``. So the split is the same on every
machine, does not follow the order of shooting, and an image that is added moves at most a few others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rtseg.datasets.spec_string import Arguments
from rtseg.errors import DatasetError
from rtseg.image_io.find import IMAGE_SUFFIXES

__all__ = ["SPLITS", "SPLIT_OPTIONS", "choose"]

SPLITS = ("train", "val", "test")
SPLIT_OPTIONS = ("val", "test", "lists")
"""``val`` and ``test``: a share in [0, 1], or patterns of keys joined by ``+``. ``lists``: the folder of ``train.txt``,
``val.txt`` .. with a key on each line."""

_SHARES = {"val": "0.2", "test": "0"}


def choose(keys: Sequence[str], split: str, arguments: Arguments) -> list[str]:
    """Those of ``keys`` that are in ``split``, in their order.

    Raises:
        OptionError: a share is not in [0, 1], or the options do not go together.
        DatasetError: nothing is in the split, or a list is missing or names an image that is not there.
    """
    lists = arguments.option_path("lists")
    if lists is not None:
        if arguments.options.keys() & {"val", "test"}:
            raise arguments.wrong("lists= says which image is where, so that val= and test= cannot")
        return _listed(lists / f"{split}.txt", keys)
    if split not in SPLITS:
        raise DatasetError(f"the data have the splits {', '.join(SPLITS)}; got {split!r}")
    places = _assign(keys, arguments)
    chosen = [key for key in keys if places[key] == split]
    if not chosen:
        counts = ", ".join(f"{name} {sum(place == name for place in places.values())}" for name in SPLITS)
        raise DatasetError(f"the split {split!r} is empty ({counts}): give val= or test= another share or pattern")
    return chosen


def _assign(keys: Sequence[str], arguments: Arguments) -> dict[str, str]:
    """The split of every key."""
    places: dict[str, str] = {}
    shares: dict[str, float] = {}
    for split, default in _SHARES.items():
        text = arguments.options.get(split, default)
        share = _share(text)
        if share is None:
            patterns = text.split("+")
            places |= dict.fromkeys((key for key in keys if any(fnmatchcase(key, p) for p in patterns)), split)
        elif 0 <= share <= 1:
            shares[split] = share
        else:
            raise arguments.wrong(f"{split} must be a share in [0, 1] or a pattern, got {text!r}")
    ranked = sorted((key for key in keys if key not in places), key=lambda key: hashlib.sha256(key.encode()).digest())
    for split, share in shares.items():
        count = max(1, round(share * len(keys))) if share > 0 else 0
        places |= dict.fromkeys(ranked[:count], split)
        ranked = ranked[count:]
    return places | dict.fromkeys(ranked, "train")


def _share(text: str) -> float | None:
    """The number in ``text``; None for a pattern."""
    try:
        return float(text)
    except ValueError:
        return None


def _listed(listing: Path, keys: Sequence[str]) -> list[str]:
    try:
        lines = [line.strip() for line in listing.read_text(errors="replace").splitlines()]
    except OSError as error:
        raise DatasetError(
            f"cannot read {listing} ({error.strerror}): lists= wants a folder with such a file"
        ) from error
    known = set(keys)
    chosen: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        suffix = Path(line).suffix
        key = line.removesuffix(suffix) if line not in known and suffix.lower() in IMAGE_SUFFIXES else line
        if key not in known:
            raise DatasetError(f"{listing}, line {number}: there is no image {line!r}")
        chosen.append(key)
    if not chosen:
        raise DatasetError(f"{listing} names no image: write the name of one on each line")
    return chosen
