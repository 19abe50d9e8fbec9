"""Put a result together, and print it as tables."""

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

__all__ = ["METHOD", "bottleneck_lines", "make_result", "preprocess_lines", "row_label", "show"]

METHOD = (
    "fps are (n - 1) / (last - first) over the times at which frames leave the last stage",
    "images/s are n / (last - start of reading), because a reader that works ahead has several images ready when the "
    "first one is delivered; MB/s are file bytes, in 10**6 bytes",
    "everything that is compared runs in turn, round by round, in one process; figures are medians with quartiles",
    "cold: before each run the files are fsynced and dropped from the page cache (posix_fadvise DONTNEED), which "
    "mincore checks; directories and inodes stay in memory",
    "warm: before each run the files are read into the page cache",
    "workers: threads that each read and decode files, 0 is only the calling thread; auto is the reader of rtseg",
    "pipeline: read, prepare, infer and render with overlay; every image is rendered and discarded",
    "busy: mean work of a stage per frame / time between two frames; for infer also / batches in flight",
    "limit: cores / (CPU seconds per frame of each stage alone), measured in every round",
    "latency: from the source to the last sink; file: every frame at full speed, live: at the clip's frame rate, the "
    "oldest frame dropped if necessary",
)

_BUSY_LOAD = 0.25
"""Load per core above which the machine was busy with other work."""


def make_result(kind: str, sections: dict[str, Any], workload: dict[str, Any], load: float) -> dict[str, Any]:
    """Combine the measurements with everything needed to interpret them; see ``rtseg.bench.schema``.

    Args:
        kind: ``storage`` or ``pipeline``.
        sections: from ``measure_storage`` or ``measure_clip``.
        workload: what another result must have in common with this one to be comparable.
        load: load average of the machine before the first run.
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


def row_label(row: dict[str, Any]) -> str:
    """Return the name of a row's storage or source, with "(simulated)" where it applies."""
    name = str(row["storage"] or row["source"])
    return f"{name} (simulated)" if row["simulated"] else name


def show(result: dict[str, Any], console: Console) -> None:
    """Print all tables that have rows."""
    if result["reading"]:
        console.print(_reading_table(result["reading"]))
    for row in result["storages"]:
        console.print(f"{row_label(row)}: {row['folder']}, {row['kind']} ({row['known_by']})", soft_wrap=True)
    if result["automatic"]:
        console.print(_automatic_table(result["automatic"]))
    if result["pipeline"]:
        console.print(_pipeline_table(result["pipeline"]))
        for row in result["pipeline"]:
            console.print(_stages_table(row))
        for line in (*preprocess_lines(result["pipeline"]), *bottleneck_lines(result["pipeline"])):
            console.print(line, soft_wrap=True)
    if result["memory"]:
        memory = result["memory"]
        console.print(
            f"memory of a process that only reads: peak {memory['peak_mb']:.0f} MB, "
            f"{memory['before_mb']:.0f} MB before; --prefetch-mb {memory['budget_mb']}",
            soft_wrap=True,
        )
    if result["ratios"]:
        console.print(_ratio_table(result["ratios"]))
        published = result["published"]
        console.print(
            f"{published['of']}: {published['hdd_fps']:g} and {published['ssd_fps']:g} fps, a ratio of "
            f"{published['ssd_fps'] / published['hdd_fps']:.2f}",
            soft_wrap=True,
        )
    load, cores = result["machine"]["load_before"], result["machine"]["cores"]
    if load > _BUSY_LOAD * cores:
        console.print(f"other work had a load of {load:.1f} on {cores} cores before the first run: measure again")
    if not result["complete"]:
        console.print("stopped: these are the measurements so far")


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], notes: Sequence[str] = ()) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in texts:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for name in notes:
        table.add_column(name)
    return table


def _format_spread(figures: dict[str, Any] | None, digits: int = 1) -> str:
    if figures is None:
        return ""
    middle, low, high = (f"{figures[key]:.{digits}f}" for key in ("median", "q1", "q3"))
    return f"{middle} ({low}-{high})"


def _reading_table(rows: list[dict[str, Any]]) -> Table:
    numbers = ("workers", "cold MB/s", "cold /s", "warm MB/s", "warm /s")
    table = _table(
        "reading and decoding; /s: images per second, median (quartiles)", ("storage", "decoder"), numbers, ("note",)
    )
    for row in rows:
        cells = [row_label(row), row["decoder"], "" if row["workers"] is None else str(row["workers"])]
        for state in ("cold", "warm"):
            passes = row[state]
            cells.append(f"{passes['mb_per_s']['median']:.1f}" if passes else "")
            cells.append(_format_spread(passes["images_per_s"]) if passes else "")
        table.add_row(*cells, row["skipped"] or _cache_notes({state: row[state] for state in ("cold", "warm")}))
    return table


def _cache_notes(states: dict[str, dict[str, Any] | None]) -> str:
    """Say if a cold run was not cold, or a warm one not warm."""
    return "; ".join(
        f"not {state}: {100 * passes['in_memory']:.0f} % in memory"
        for state, passes in states.items()
        if passes and not passes["as_said"]
    )


def _automatic_table(rows: list[dict[str, Any]]) -> Table:
    numbers = ("auto /s", "best /s", "best workers", "share")
    table = _table("the automatic profile against the best number of workers", ("storage", "decoder", "state"), numbers)
    for row in rows:
        figures = (f"{row['automatic']:.1f}", f"{row['best']:.1f}", str(row["best_workers"]), f"{row['share']:.2f}")
        table.add_row(row_label(row), row["decoder"], row["state"], *figures)
    return table


def _pipeline_table(rows: list[dict[str, Any]]) -> Table:
    texts = ("source", "state", "backend")
    numbers = ("fps", "limit", "share", "p50 ms", "p95 ms", "p99 ms", "dropped")
    table = _table("the whole pipeline, median (quartiles); ms: latency", texts, numbers, ("note",))
    for row in rows:
        limit, share = row["limit_fps"], row["share_of_limit"]
        note = _cache_notes({row["state"]: row}) if row["storage"] else ""
        table.add_row(
            row_label(row),
            row["state"],
            f"{row['backend']} {row['precision']}",
            _format_spread(row["fps"]),
            f"{limit:.1f}" if limit else "",
            f"{share:.2f}" if share else "",
            *(f"{row['latency_ms'][key]['median']:.0f}" for key in ("p50", "p95", "p99")),
            f"{row['dropped']} of {row['dropped'] + row['frames']}",
            note,
        )
    return table


def _stages_table(row: dict[str, Any]) -> Table:
    title = f"{row_label(row)}, {row['state']}, {row['backend']}: work per frame, ms"
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
    """Say for each row of the pipeline which stage the others wait for."""
    return [
        f"{row_label(row)}, {row['state']}, {row['backend']}: the bottleneck is {row['bottleneck']}, busy for "
        f"{100 * row['busy'][row['bottleneck']]:.0f} % of the time"
        for row in rows
    ]


def preprocess_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Say which preprocessing steps were used, if not those of the model file; each list once."""
    overrides = [row["preprocess"] for row in rows if row["preprocess"] != row["preprocess_of_model"]]
    return list(dict.fromkeys(f"images are prepared by {','.join(('resize', *steps))}" for steps in overrides))


def _ratio_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("ratios", ("what",), ("ratio",), ("of",))
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(row["name"] + (" (simulated)" if row["simulated"] else ""), ratio, row["of"])
    return table
