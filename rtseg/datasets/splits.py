"""Assign images to splits if the data set does not define its own.

The images are ranked by the SHA-256 of their key (the name without suffix). The first ones are ``val`` (a fifth, at
least one), the next ones are ``test`` (none unless asked for) and the rest is ``train``. The split is therefore the
same on every machine and independent of the recording order, and adding an image moves at most a few others.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rtseg.datasets.spec_string import SpecString
from rtseg.errors import DatasetError
from rtseg.image_io.find import IMAGE_SUFFIXES
from rtseg.system.read_file import read_lines

__all__ = ["SPLITS", "SPLIT_OPTIONS", "select_split"]

SPLITS = ("train", "val", "test")
SPLIT_OPTIONS = ("val", "test", "lists")
"""``val`` and ``test``: a share in [0, 1], or key patterns joined by ``+``. ``lists``: a folder with ``train.txt``,
``val.txt`` .., which have a key on each line."""

_DEFAULT_SHARES = {"val": "0.2", "test": "0"}


def select_split(keys: Sequence[str], split: str, spec: SpecString) -> list[str]:
    """Return the keys in ``split``, in the order of ``keys``.

    Raises:
        OptionError: a share is not in [0, 1], or the options cannot be combined.
        DatasetError: the split is empty, or a list is missing or names an unknown image.
    """
    lists = spec.option_path("lists")
    if lists is not None:
        if spec.options.keys() & {"val", "test"}:
            raise spec.error("lists= defines the splits: leave out val= and test=")
        return _read_list(lists / f"{split}.txt", keys)
    if split not in SPLITS:
        raise DatasetError(f"the data have the splits {', '.join(SPLITS)}; got {split!r}")
    split_of = _assign(keys, spec)
    selected = [key for key in keys if split_of[key] == split]
    if not selected:
        counts = ", ".join(f"{name} {list(split_of.values()).count(name)}" for name in SPLITS)
        raise DatasetError(f"the split {split!r} is empty ({counts}): give val= or test= another share or pattern")
    return selected


def _assign(keys: Sequence[str], spec: SpecString) -> dict[str, str]:
    """Return the split of every key."""
    split_of: dict[str, str] = {}
    shares: dict[str, float] = {}
    for split, default in _DEFAULT_SHARES.items():
        text = spec.options.get(split, default)
        share = _parse_share(text)
        if share is None:
            patterns = unicodedata.normalize("NFC", text).split("+")
            split_of |= dict.fromkeys(
                (key for key in keys if any(key == p or fnmatchcase(key, p) for p in patterns)), split
            )
        elif 0 <= share <= 1:
            shares[split] = share
        else:
            raise spec.error(f"{split} must be a share in [0, 1] or a pattern, got {text!r}")
    ranked = sorted((key for key in keys if key not in split_of), key=_rank)
    for split, share in shares.items():
        count = max(1, round(share * len(keys))) if share > 0 else 0
        split_of |= dict.fromkeys(ranked[:count], split)
        ranked = ranked[count:]
    return split_of | dict.fromkeys(ranked, "train")


def _rank(key: str) -> bytes:
    # A key may come from a file name that is not UTF-8.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _parse_share(text: str) -> float | None:
    """Return the number in ``text``, or None if it is a pattern."""
    try:
        return float(text)
    except ValueError:
        return None


def _read_list(path: Path, keys: Sequence[str]) -> list[str]:
    try:
        lines = [unicodedata.normalize("NFC", line) for line in read_lines(path)]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise DatasetError(f"cannot read {path} ({reason}): lists= needs a folder with this file") from error
    known = set(keys)
    selected: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        suffix = Path(line).suffix
        key = line.removesuffix(suffix) if line not in known and suffix.lower() in IMAGE_SUFFIXES else line
        if key not in known:
            raise DatasetError(f"{path}, line {number}: there is no image {line!r}")
        selected.append(key)
    if not selected:
        raise DatasetError(f"{path} names no image: write one image name on each line")
    return selected
