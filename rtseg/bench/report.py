"""A result as JSON and as tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rtseg.bench.environment import commit, machine, versions
from rtseg.bench.schema import SCHEMA
from rtseg.bench.storage.ratios import PUBLISHED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["METHOD", "as_result", "bottleneck_lines", "mark", "prepared_lines", "show"]

METHOD = (
    "fps are (n - 1) / (last - first) over the times at which frames leave the last stage",
    "images/s are the same with the beginning of the reading as the first time: a reader that works ahead has many "
    "at hand when its first image comes out; MB/s are of the files, in 10**6 bytes",
    "what is compared runs in turn, round after round, in one process; figures are medians with quartiles",
    "cold: the files are fsynced and taken out of the page cache (posix_fadvise DONTNEED) before each run, and mincore "
    "says whether they are; directories and inodes stay in memory",
    "warm: the files are read into the page cache before each run",
    "workers: threads that each read and decode a file, 0 is the caller's thread alone; auto is the reader of rtseg",
    "pipeline: read, prepare, infer and render with overlay, every image drawn and thrown away",
    "busy: mean work of a stage on a frame, by the time between two frames; infer's by the batches in flight, too",
    "limit: cores / CPU seconds that a frame costs in each stage alone, measured in every round",
    "latency: from the source's hand to the last sink's; file: every frame as fast as it goes, live: at the clip's own "
    "pace with the oldest dropped",
)

_BUSY = 0.25
"""Load on each core from which on the machine is no quiet one."""


def as_result(kind: str, sections: dict[str, Any], workload: dict[str, Any], load: float) -> dict[str, Any]:
    """What was measured, with all that is to be known of it; see ``rtseg.bench.schema``.

    Args:
        kind: ``storage`` or ``pipeline``.
        sections: of ``measure_storage`` or ``measure_clip``.
        workload: what another result must have in common to be compared.
        load: average number of processes that wanted a processor before.
    """
    empty: dict[str, Any] = {
        "storages": [],
        "disk_model": None,
        "images": None,
        "memory": None,
        "reading": [],
        "automatic": [],
        "cache": [],
        "pipeline": [],
        "ratios": [],
        "published": PUBLISHED if kind == "storage" else None,
    }
    return {
        "schema": SCHEMA,
        "kind": kind,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"load_before": load},
        "versions": versions(),
        "commit": commit(),
        "command": shlex.join(["rtseg", *sys.argv[1:]]),
        "method": list(METHOD),
        "workload": workload,
        **empty,
        **sections,
    }


def mark(row: dict[str, Any]) -> str:
    """The name of a row's storage or source; never without the word where it is simulated."""
    name = str(row["storage"] or row["source"])
    return f"{name} (simulated)" if row["simulated"] else name


def show(result: dict[str, Any], console: Console) -> None:
    """Print every table that there are rows for."""
    if result["reading"]:
        _print(console, _reading_table(result["reading"]))
    for row in result["storages"]:
        console.print(f"{mark(row)}: {row['folder']}, {row['kind']} ({row['known_by']})", soft_wrap=True)
    if result["automatic"]:
        _print(console, _automatic_table(result["automatic"]))
    if result["pipeline"]:
        _print(console, _pipeline_table(result["pipeline"]))
        for row in result["pipeline"]:
            _print(console, _stages_table(row))
        for line in (*prepared_lines(result["pipeline"]), *bottleneck_lines(result["pipeline"])):
            console.print(line, soft_wrap=True)
    if result["memory"]:
        memory = result["memory"]
        console.print(
            f"memory of a process that only reads: {memory['peak_mb']:.0f} MB at its highest, "
            f"{memory['before_mb']:.0f} before; --prefetch-mb {memory['budget_mb']}",
            soft_wrap=True,
        )
    if result["ratios"]:
        _print(console, _ratio_table(result["ratios"]))
        published = result["published"]
        console.print(
            f"{published['of']}: {published['hdd_fps']:g} and {published['ssd_fps']:g} fps, a ratio of "
            f"{published['ssd_fps'] / published['hdd_fps']:.2f}",
            soft_wrap=True,
        )
    load, cores = result["machine"]["load_before"], result["machine"]["cores"]
    if load > _BUSY * cores:
        console.print(f"other work had a load of {load:.1f} on {cores} cores before the first run: measure again")
    if not result["complete"]:
        console.print("stopped: this is what was measured until then")


def _print(console: Console, table: Table) -> None:
    console.print(table)


def _table(title: str, words: Sequence[str], numbers: Sequence[str], notes: Sequence[str] = ()) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for name in notes:
        table.add_column(name)
    return table


def _range(figures: dict[str, Any] | None, digits: int = 1) -> str:
    if figures is None:
        return ""
    middle, low, high = (f"{figures[key]:.{digits}f}" for key in ("median", "q1", "q3"))
    return f"{middle} ({low}-{high})"


def _reading_table(rows: list[dict[str, Any]]) -> Table:
    numbers = ("workers", "cold MB/s", "cold /s", "warm MB/s", "warm /s")
    table = _table(
        "reading and decoding; /s: images a second, median (quartiles)", ("storage", "decoder"), numbers, ("note",)
    )
    for row in rows:
        cells = [mark(row), row["decoder"], "" if row["workers"] is None else str(row["workers"])]
        for state in ("cold", "warm"):
            found = row[state]
            cells.append(f"{found['mb_per_s']['median']:.1f}" if found else "")
            cells.append(_range(found["images_per_s"]) if found else "")
        table.add_row(*cells, row["skipped"] or _notes({state: row[state] for state in ("cold", "warm")}))
    return table


def _notes(states: dict[str, dict[str, Any] | None]) -> str:
    """Where a cold run was not cold, or a warm one not warm."""
    return "; ".join(
        f"not {state}: {100 * found['in_memory']:.0f} % in memory"
        for state, found in states.items()
        if found and not found["as_said"]
    )


def _automatic_table(rows: list[dict[str, Any]]) -> Table:
    numbers = ("auto /s", "best /s", "its workers", "share")
    table = _table("the automatic profile beside the best number of workers", ("storage", "decoder", "state"), numbers)
    for row in rows:
        figures = (f"{row['automatic']:.1f}", f"{row['best']:.1f}", str(row["best_workers"]), f"{row['share']:.2f}")
        table.add_row(mark(row), row["decoder"], row["state"], *figures)
    return table


def _pipeline_table(rows: list[dict[str, Any]]) -> Table:
    words = ("source", "state", "backend")
    numbers = ("fps", "limit", "share", "p50 ms", "p95 ms", "p99 ms", "dropped")
    table = _table("the whole pipeline, median (quartiles); ms: latency", words, numbers, ("note",))
    for row in rows:
        limit, share = row["limit_fps"], row["share_of_limit"]
        note = _notes({row["state"]: row}) if row["storage"] else ""
        table.add_row(
            mark(row),
            row["state"],
            f"{row['backend']} {row['precision']}",
            _range(row["fps"]),
            f"{limit:.1f}" if limit else "",
            f"{share:.2f}" if share else "",
            *(f"{row['latency_ms'][key]['median']:.0f}" for key in ("p50", "p95", "p99")),
            f"{row['dropped']} of {row['dropped'] + row['frames']}",
            note,
        )
    return table


def _stages_table(row: dict[str, Any]) -> Table:
    title = f"{mark(row)}, {row['state']}, {row['backend']}: work on a frame, ms"
    table = _table(title, ("stage",), ("p50", "p95", "p99", "busy %", "CPU ms alone", "queue", "longest"))
    for stage, figures in row["stages"].items():
        queue = row["queues"].get(stage)
        alone = (row["cpu_ms"] or {}).get(stage)
        table.add_row(
            stage,
            *(f"{figures[f'{key}_ms']:.2f}" for key in ("p50", "p95", "p99")),
            f"{100 * row['busy'][stage]:.0f}",
            f"{alone:.2f}" if alone is not None else "",
            f"{queue['mean']:.1f}" if queue else "",
            f"{queue['max']:.0f}" if queue else "",
        )
    return table


def bottleneck_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Of each row of the pipeline, which stage the others wait for."""
    return [
        f"{mark(row)}, {row['state']}, {row['backend']}: the bottleneck is {row['bottleneck']}, busy for "
        f"{100 * row['busy'][row['bottleneck']]:.0f} % of the time"
        for row in rows
    ]


def prepared_lines(rows: list[dict[str, Any]]) -> list[str]:
    """By which steps images were prepared, where they are not those of the model file; each list once."""
    others = [row["preprocess"] for row in rows if row["preprocess"] != row["preprocess_of_model"]]
    return list(dict.fromkeys(f"images are prepared by {','.join(('resize', *steps))}" for steps in others))


def _ratio_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("ratios", ("what",), ("ratio",), ("of",))
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(row["name"] + (" (simulated)" if row["simulated"] else ""), ratio, row["of"])
    return table
