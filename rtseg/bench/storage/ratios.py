"""What the rows of reading come to: how near the automatic profile is to the best, and five ratios."""

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
    """Of each storage, decoder and state: the automatic profile beside the best of all numbers of workers.

    Keys are ``storage``, ``simulated``, ``decoder``, ``state``, ``automatic`` and ``best`` (images a second),
    ``best_workers`` and ``share``, the first by the second.
    """
    found = []
    for row in reading:
        for state in ("cold", "warm"):
            best = _best(reading, row["storage"], row["decoder"], state)
            if row["workers"] != AUTO or row[state] is None or best is None:
                continue
            found.append(
                {
                    **{key: row[key] for key in ("storage", "simulated", "decoder")},
                    "state": state,
                    "automatic": _rate(row, state),
                    "best": _rate(best, state),
                    "best_workers": best["workers"],
                    "share": _rate(row, state) / _rate(best, state),
                }
            )
    return found


def ratios(reading: list[Row], cache: list[Row], pipeline: list[Row]) -> list[Row]:
    """The five of ``benchmarks/storage.md``, each as ``name``, ``ratio``, ``of`` and ``simulated``; those that could
    not be measured have no ratio, and ``of`` says why.
    """
    return [
        _of_decoders(reading, "cv2", "pil"),
        _of_decoders(reading, "turbojpeg", "cv2"),
        *_of_workers(reading),
        _of_storages(reading, pipeline),
        *_of_cache(cache),
    ]


def _of_decoders(reading: list[Row], one: str, other: str) -> Row:
    name = f"{one} against {other}"
    if not reading:
        return _without(name, "nothing was read")
    storage = reading[0]["storage"]
    best = {decoder: _best(reading, storage, decoder, "warm") for decoder in (one, other)}
    missing = [decoder for decoder, row in best.items() if row is None]
    if missing:
        why = [row["skipped"] for row in reading if row["decoder"] in missing and row["skipped"]]
        return _without(name, why[0] if why else f"{missing[0]} was not measured")
    first, second = best[one], best[other]
    assert first is not None
    assert second is not None
    what = f"warm, {storage}, each with its best workers ({first['workers']} and {second['workers']})"
    return _ratio(name, _rate(first, "warm") / _rate(second, "warm"), what, simulated=first["simulated"])


def _of_workers(reading: list[Row]) -> list[Row]:
    found = []
    for row in reading:
        best = _best(reading, row["storage"], "cv2", "cold")
        if row["decoder"] == "cv2" and row["workers"] == 0 and row["cold"] is not None and best is not None:
            what = f"cold, {row['storage']}, cv2, with {best['workers']}"
            ratio = _rate(best, "cold") / _rate(row, "cold")
            found.append(_ratio("best workers against 0", ratio, what, simulated=row["simulated"]))
    return found or [_without("best workers against 0", "cv2 with 0 workers was not measured")]


def _of_storages(reading: list[Row], pipeline: list[Row]) -> Row:
    name = "SSD against hard disk"
    automatic = [row for row in reading if row["decoder"] == "cv2" and row["workers"] == AUTO and row["cold"]]
    ssd = [row for row in automatic if row["storage"].startswith("ssd")]
    hdd = [row for row in automatic if row["storage"].startswith("hdd")]
    if not ssd or not hdd:
        return _without(name, "it wants --storage ssd and --storage hdd, and the decoder cv2")
    what = "cold, cv2, automatic profile"
    streamed = {
        row["storage"]: row["fps"]["median"] for row in pipeline if row["state"] == "cold" and row["fps"]["median"]
    }
    if {ssd[0]["storage"], hdd[0]["storage"]} <= set(streamed):
        slow, fast = streamed[hdd[0]["storage"]], streamed[ssd[0]["storage"]]
        what += f"; of the whole pipeline {fast / slow:.2f} ({fast:.1f} against {slow:.1f} fps)"
    ratio = _rate(ssd[0], "cold") / _rate(hdd[0], "cold")
    return _ratio(name, ratio, what, simulated=ssd[0]["simulated"] or hdd[0]["simulated"])


def _of_cache(cache: list[Row]) -> list[Row]:
    name = "--ssd-cache: second pass against first"

    def rate(row: Row, which: str) -> float:
        return float(row[which]["images_per_s"]["median"])

    found = [
        _ratio(
            name,
            rate(row, "second") / rate(row, "first"),
            f"cold, {row['storage']}, cv2, automatic profile",
            simulated=row["simulated"],
        )
        for row in cache
    ]
    return found or [_without(name, "it wants --storage hdd")]


def _best(reading: list[Row], storage: str, decoder: str, state: str) -> Row | None:
    """Of the rows with a number of workers."""
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


def _without(name: str, why: str) -> Row:
    return {"name": name, "ratio": None, "of": why, "simulated": False}
