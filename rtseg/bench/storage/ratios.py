"""Summarize the rows of a result: the automatic profile against the best number of workers, and five ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rtseg.bench.storage.passes import AUTO

__all__ = ["PUBLISHED", "ratios", "shares_of_best"]

PUBLISHED = {
    "hdd_fps": 11.0,
    "ssd_fps": 23.0,
    "of": "as published, not measured here: one ICNet on 3072x3072 images of one channel, read from a hard disk and "
    "from an SSD",
}

Row = dict[str, Any]


def shares_of_best(reading: list[Row]) -> list[Row]:
    """Compare the automatic profile with the best number of workers, for every storage, decoder and state.

    Each entry has ``storage``, ``simulated``, ``decoder``, ``state``, ``automatic`` and ``best`` (images per second),
    ``best_workers``, and ``share`` = automatic / best.
    """
    shares = []
    for row in reading:
        for state in ("cold", "warm"):
            best = _best(reading, row["storage"], row["decoder"], state)
            if row["workers"] != AUTO or row[state] is None or best is None:
                continue
            shares.append(
                {
                    **{key: row[key] for key in ("storage", "simulated", "decoder")},
                    "state": state,
                    "automatic": _rate(row, state),
                    "best": _rate(best, state),
                    "best_workers": best["workers"],
                    "share": _rate(row, state) / _rate(best, state),
                }
            )
    return shares


def ratios(reading: list[Row], cache: list[Row], pipeline: list[Row]) -> list[Row]:
    """Compute the five ratios of docs/benchmarks/storage.md, each with ``name``, ``ratio``, ``of`` and ``simulated``.

    If one could not be measured, ``ratio`` is None and ``of`` says why.
    """
    return [
        _decoder_ratio(reading, "cv2", "pil"),
        _decoder_ratio(reading, "turbojpeg", "cv2"),
        *_worker_ratios(reading),
        _storage_ratio(reading, pipeline),
        *_cache_ratios(cache),
    ]


def _decoder_ratio(reading: list[Row], first: str, second: str) -> Row:
    name = f"{first} against {second}"
    if not reading:
        return _no_ratio(name, "nothing was read")
    storage = reading[0]["storage"]
    best = {decoder: _best(reading, storage, decoder, "warm") for decoder in (first, second)}
    missing = [decoder for decoder, row in best.items() if row is None]
    if missing:
        reasons = [row["skipped"] for row in reading if row["decoder"] in missing and row["skipped"]]
        return _no_ratio(name, reasons[0] if reasons else f"{missing[0]} was not measured")
    row, base = best[first], best[second]
    assert row is not None
    assert base is not None
    of = f"warm, {storage}, each with its best workers ({row['workers']} and {base['workers']})"
    return _ratio(name, _rate(row, "warm") / _rate(base, "warm"), of, simulated=row["simulated"])


def _worker_ratios(reading: list[Row]) -> list[Row]:
    name = "best workers against 0"
    rows = []
    for row in reading:
        best = _best(reading, row["storage"], "cv2", "cold")
        if row["decoder"] == "cv2" and row["workers"] == 0 and row["cold"] is not None and best is not None:
            of = f"cold, {row['storage']}, cv2, with {best['workers']}"
            ratio = _rate(best, "cold") / _rate(row, "cold")
            rows.append(_ratio(name, ratio, of, simulated=row["simulated"]))
    return rows or [_no_ratio(name, "cv2 with 0 workers was not measured")]


def _storage_ratio(reading: list[Row], pipeline: list[Row]) -> Row:
    name = "SSD against hard disk"
    automatic = [row for row in reading if row["decoder"] == "cv2" and row["workers"] == AUTO and row["cold"]]
    ssd = [row for row in automatic if row["storage"].startswith("ssd")]
    hdd = [row for row in automatic if row["storage"].startswith("hdd")]
    if not ssd or not hdd:
        return _no_ratio(name, "needs --storage ssd, --storage hdd and the decoder cv2")
    of = "cold, cv2, automatic profile"
    streamed = {
        row["storage"]: row["fps"]["median"] for row in pipeline if row["state"] == "cold" and row["fps"]["median"]
    }
    if {ssd[0]["storage"], hdd[0]["storage"]} <= set(streamed):
        slow, fast = streamed[hdd[0]["storage"]], streamed[ssd[0]["storage"]]
        of += f"; of the whole pipeline {fast / slow:.2f} ({fast:.1f} against {slow:.1f} fps)"
    ratio = _rate(ssd[0], "cold") / _rate(hdd[0], "cold")
    return _ratio(name, ratio, of, simulated=ssd[0]["simulated"] or hdd[0]["simulated"])


def _cache_ratios(cache: list[Row]) -> list[Row]:
    name = "--ssd-cache: second pass against first"

    def rate(row: Row, number: str) -> float:
        return float(row[number]["images_per_s"]["median"])

    rows = [
        _ratio(
            name,
            rate(row, "second") / rate(row, "first"),
            f"cold, {row['storage']}, cv2, automatic profile",
            simulated=row["simulated"],
        )
        for row in cache
    ]
    return rows or [_no_ratio(name, "needs --storage hdd")]


def _best(reading: list[Row], storage: str, decoder: str, state: str) -> Row | None:
    """The fastest row with a number of workers, without the automatic profile."""
    rows = [
        row
        for row in reading
        if row["storage"] == storage and row["decoder"] == decoder and row[state] and row["workers"] != AUTO
    ]
    by_rate: Callable[[Row], float] = lambda row: _rate(row, state)  # noqa: E731
    return max(rows, key=by_rate, default=None)


def _rate(row: Row, state: str) -> float:
    return float(row[state]["images_per_s"]["median"])


def _ratio(name: str, ratio: float, of: str, *, simulated: bool) -> Row:
    return {"name": name, "ratio": ratio, "of": of, "simulated": simulated}


def _no_ratio(name: str, reason: str) -> Row:
    return {"name": name, "ratio": None, "of": reason, "simulated": False}
