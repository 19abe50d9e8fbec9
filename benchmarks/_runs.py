"""One file of results, made of several runs of ``backends.py``: a case that is not repeated stays as it was."""

from __future__ import annotations

from typing import Any

__all__ = ["EMPTY", "merged", "run_of", "run_title"]

Facts = dict[str, Any]
EMPTY: Facts = {"runs": [], "rows": [], "accuracy": []}
"""What a file holds before the first run."""


def merged(before: Facts, run: Facts, rows: list[Facts], scores: list[Facts]) -> Facts:
    """``before`` with what ``run`` has measured.

    A case is a model, a size and a batch on the CPU or on a GPU: its rows were measured in turn and compared with each
    other, so it is replaced as a whole. Scores are of a model in a row. Runs of which nothing is left are forgotten.

    Args:
        before: ``runs``, ``rows`` and ``accuracy`` of the file; what else it has is left out.
        run: date, commit, load, machine, versions, rounds and seconds; the date tells it from others.
        rows: of ``run``.
        scores: of ``run``, too.

    Returns:
        The new ``runs``, ``rows`` and ``accuracy``; rows and scores each name their run.
    """
    cases, judged = {_case(row) for row in rows}, {_score(score) for score in scores}
    found = {
        "rows": [row for row in before["rows"] if _case(row) not in cases],
        "accuracy": [score for score in before["accuracy"] if _score(score) not in judged],
    }
    found["rows"] += [{**row, "run": run["date"]} for row in rows]
    found["accuracy"] += [{**score, "run": run["date"]} for score in scores]
    used = {entry["run"] for entries in found.values() for entry in entries}
    return {"runs": [one for one in (*before["runs"], run) if one["date"] in used], **found}


def _case(row: Facts) -> tuple[Any, ...]:
    return (row["model"], *row["size"], row["batch"], row["row"].endswith(" cuda"))


def _score(score: Facts) -> tuple[str, str]:
    return score["model"], score["row"]


def run_of(facts: Facts, entry: Facts) -> Facts:
    """The run that a row or a score comes from."""
    found: Facts = next(run for run in facts["runs"] if run["date"] == entry["run"])
    return found


def run_title(run: Facts) -> str:
    """E.g. ``2026-11-20T19:39:09+00:00, commit dedac4c, load 0.3 before it``."""
    load = "load not noted" if run["load"] is None else f"load {run['load']:.1f} before it"
    return f"{run['date']}, commit {run['commit']}, {load}"
