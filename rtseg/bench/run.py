"""A benchmark from its options to its exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.bench import interleave as _turns
from rtseg.bench.chart import check_matplotlib, draw
from rtseg.bench.compare import check_comparable, compare, regressions, show_changes
from rtseg.bench.pipeline import ClipOptions, measure_clip
from rtseg.bench.report import make_result, show
from rtseg.bench.schema import check_result, read_result
from rtseg.bench.storage.run import StorageOptions, measure_storage
from rtseg.errors import OptionError, SinkError
from rtseg.image_io.find import find_images
from rtseg.system.atomic_files import check_folder_writable, check_writable, write_bytes, write_text
from rtseg.system.redact import redact

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ResultOptions", "bench"]

_STOPPED, _SLOWER = 130, 1


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Where the result goes, and what it is judged by.

    Raises:
        OptionError: a number is out of range.
    """

    output: Path | None = None
    """A folder for ``<kind>.json`` and ``<kind>.png``; made where it is missing."""
    compare: Path | None = None
    """The JSON of an older result."""
    max_regression: float = 10.0
    """In percent."""
    report: Path | None = None
    """A JSON file for the result alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_regression <= 1e6:
            raise OptionError(f"--max-regression must be in 0 .. 1e6 percent, got {self.max_regression:g}")


def bench(options: StorageOptions | ClipOptions, outcome: ResultOptions, console: Console) -> int:
    """Measure, print, write, compare; returns the exit code.

    That is 0, or 1 where a figure became worse than in the older result by more than it may, or 130 after Ctrl-C.

    Raises:
        RtsegError: something cannot be used; what can be checked before the first run is.
    """
    kind = "storage" if isinstance(options, StorageOptions) else "pipeline"
    workload = _workload(options)
    old = read_result(outcome.compare) if outcome.compare is not None else None
    if old is not None:
        check_comparable(old, kind, workload)
    if outcome.output is not None:
        check_matplotlib()
        check_folder_writable(outcome.output, f"--output {outcome.output}")
    if outcome.report is not None:
        check_writable(outcome.report, f"--report {outcome.report}")
    load = os.getloadavg()[0]
    with _shown(console) as tell:
        if isinstance(options, StorageOptions):
            sections = measure_storage(options, tell)
        else:
            sections = measure_clip(options, tell)
    result = make_result(kind, sections, workload, load)
    check_result(result)
    show(result, console)
    if outcome.report is not None:
        write_text(outcome.report, json.dumps(result, indent=2) + "\n")
    if outcome.output is not None:
        _write(result, outcome.output, console)
    if not result["complete"]:
        return _STOPPED
    return _judged(old, result, outcome.max_regression, console) if old is not None else 0


def _judged(old: dict[str, Any], new: dict[str, Any], percent: float, console: Console) -> int:
    changes = compare(old, new)
    show_changes(old, new, changes, console)
    worse = regressions(changes, percent)
    for change in worse:
        console.print(f"worse by {change.loss:.1f} %, more than {percent:g}: {change.name}", soft_wrap=True)
    return _SLOWER if worse else 0


def _workload(options: StorageOptions | ClipOptions) -> dict[str, Any]:
    """What two results must have in common to be compared."""
    model = {
        "model": Path(options.model).name,
        "model_size": list(options.model_size) if options.model_size else None,
        "preprocess": list(options.preprocess) if options.preprocess is not None else None,
    }
    if isinstance(options, ClipOptions):
        clip = redact(options.source).rpartition("/")[2]
        return {"source": clip, "frames": options.frames, **model}
    if options.data is not None:
        found = find_images(options.data)
        images: dict[str, list[int | str]] = {"data": [len(found), sum(path.stat().st_size for path in found)]}
    else:
        drawn = options.drawn
        images = {"drawn": [drawn.images, *drawn.size, drawn.format]}
    return {**images, "prefetch_mb": options.prefetch_mb, **(model if options.network else {})}


def _write(result: dict[str, Any], folder: Path, console: Console) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"--output {folder} cannot be made ({error.strerror}): give another") from error
    name = folder / result["kind"]
    # The figures first: whatever becomes of the chart, they are kept.
    write_text(name.with_suffix(".json"), json.dumps(result, indent=2) + "\n")
    write_bytes(name.with_suffix(".png"), draw(result))
    console.print(f"wrote {name}.json and {name}.png", soft_wrap=True)


@contextmanager
def _shown(console: Console) -> Iterator[_turns.ProgressCallback]:
    """A bar on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, total, what: progress.update(bar, completed=done, total=total, description=what)
