"""Merge several runs of ``backends.py`` into one results file: cases that were not repeated are kept."""

from __future__ import annotations

from typing import Any

__all__ = ["EMPTY", "find_run", "merge", "run_title"]

Facts = dict[str, Any]
EMPTY: Facts = {"runs": [], "rows": [], "accuracy": []}
"""The content of the file before the first run."""


def merge(before: Facts, run: Facts, rows: list[Facts], scores: list[Facts]) -> Facts:
    """Merge the rows and scores of a run into earlier results.

    A case is a model, a size and a batch size on the CPU or on a GPU. Its rows were measured in turn and compared with
    each other, so a case is replaced as a whole. A score belongs to a model and a row, and is replaced alone. Runs that
    have neither rows nor scores left are removed.

    Args:
        before: the earlier ``runs``, ``rows`` and ``accuracy``; other keys are ignored.
        run: date, commit, load, machine, versions, rounds and seconds. The date identifies the run.
        rows: rows of ``run``.
        scores: scores of ``run``.

    Returns:
        The new ``runs``, ``rows`` and ``accuracy``. Every row and score names its run.
    """
    new_cases, new_scores = {_case(row) for row in rows}, {_score(score) for score in scores}
    entries = {
        "rows": [row for row in before["rows"] if _case(row) not in new_cases],
        "accuracy": [score for score in before["accuracy"] if _score(score) not in new_scores],
    }
    entries["rows"] += [{**row, "run": run["date"]} for row in rows]
    entries["accuracy"] += [{**score, "run": run["date"]} for score in scores]
    used = {entry["run"] for section in entries.values() for entry in section}
    return {"runs": [each for each in (*before["runs"], run) if each["date"] in used], **entries}


def _case(row: Facts) -> tuple[Any, ...]:
    return (row["model"], *row["size"], row["batch"], row["row"].endswith(" cuda"))


def _score(score: Facts) -> tuple[str, str]:
    return score["model"], score["row"]


def find_run(facts: Facts, entry: Facts) -> Facts:
    """Return the run that a row or score belongs to."""
    run: Facts = next(run for run in facts["runs"] if run["date"] == entry["run"])
    return run


def run_title(run: Facts) -> str:
    """E.g. ``2026-11-20T19:39:09+00:00, commit dedac4c, load 0.3 before it``."""
    load = "load not recorded" if run["load"] is None else f"load {run['load']:.1f} before it"
    return f"{run['date']}, commit {run['commit']}, {load}"
