"""Run-length codes of masks as in COCO: column by column, runs of 0 and 1 in turn, beginning with 0.

Source: Lin and others, "Microsoft COCO", ECCV 2014, and the format of its API (``maskApi.c``), which stores the counts
as differences to the count before the last one, in groups of five bits with a sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels

__all__ = ["ClassRuns", "class_runs", "decode_counts", "decode_string", "encode_string"]

_BITS, _VALUE, _SIGN, _MORE, _FIRST = 5, 0x1F, 0x10, 0x20, 48
"""A group: its bits, their mask, the sign bit of the last group, the flag that more follow, and the code of 0."""
_MAX_GROUPS = 13
"""Of a number of 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassRuns:
    """The pixels of one class in one image."""

    class_id: int
    counts: NDArray[np.int64]
    """Lengths of runs of other pixels and of pixels of this class in turn, in pixels, column by column."""
    area: int
    """Pixels."""
    box: tuple[int, int, int, int]
    """x, y, width, height of the smallest box around them, in pixels."""


def class_runs(labels: Labels, classes: int) -> Iterator[ClassRuns]:
    """Yield the runs of every class that occurs, by rising class ID.

    Args:
        labels: class IDs, uint8 (H, W). IDs of ``classes`` or more are left out.
        classes: number of classes.
    """
    height = labels.shape[0]
    flat = np.ascontiguousarray(labels.T).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    for class_id in np.unique(values[values < classes]).tolist():
        chosen = values == class_id
        yield _runs(class_id, starts[chosen], ends[chosen], height, flat.size)


def _runs(class_id: int, starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, pixels: int) -> ClassRuns:
    edges = np.column_stack((starts, ends)).ravel()
    counts = np.diff(edges, prepend=0, append=pixels)
    left, right = int(starts[0]) // height, (int(ends[-1]) - 1) // height
    top, bottom = 0, height - 1
    if np.array_equal(starts // height, (ends - 1) // height):  # else a run goes on at the top of the next column
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max())
    box = (left, top, right - left + 1, bottom - top + 1)
    return ClassRuns(class_id, counts if counts[-1] else counts[:-1], int((ends - starts).sum()), box)


def encode_string(counts: NDArray[np.int64]) -> str:
    """Return ``counts`` as the text that COCO calls a compressed RLE."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    codes = np.zeros((len(rest), _MAX_GROUPS), np.uint8)
    used = np.zeros(codes.shape, bool)
    active = np.ones(len(rest), bool)
    for group in range(_MAX_GROUPS):
        low = rest & _VALUE
        rest >>= _BITS
        more = np.where(low & _SIGN, rest != -1, rest != 0)
        codes[:, group] = low + _MORE * more + _FIRST
        used[:, group] = active
        active &= more
        if not active.any():
            break
    return codes[used].tobytes().decode("ascii")


def decode_string(text: str) -> NDArray[np.int64]:
    """Return the counts of a compressed RLE.

    Raises:
        ValueError: the text is not one.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - _FIRST
    if not codes.size or codes.min() < 0 or codes.max() > (_VALUE | _MORE) or codes[-1] & _MORE:
        raise ValueError("not a run-length code of COCO")
    lasts = np.flatnonzero((codes & _MORE) == 0)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    lengths = lasts - firsts + 1
    if lengths.max() > _MAX_GROUPS - 1:
        raise ValueError("not a run-length code of COCO: a number is too large")
    places = np.arange(codes.size) - np.repeat(firsts, lengths)
    counts = np.add.reduceat((codes & _VALUE) << (_BITS * places), firsts)
    counts -= np.where(codes[lasts] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def decode_counts(counts: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of ``counts``, bool (H, W).

    Raises:
        ValueError: a count is negative, or they do not add up to the pixels of (H, W) = ``size``.
    """
    height, width = size
    if (counts.size and (counts.min() < 0 or counts.max() > height * width)) or counts.sum() != height * width:
        raise ValueError(f"the runs do not fill {height}x{width} pixels")
    values = np.arange(counts.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)
