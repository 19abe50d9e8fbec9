"""Run a benchmark: measure, print, write, compare with an older result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.bench.chart import check_matplotlib, draw
from rtseg.bench.compare import check_comparable, compare, regressions, show_changes
from rtseg.bench.interleave import ProgressCallback
from rtseg.bench.pipeline import ClipOptions, measure_clip
from rtseg.bench.report import make_result, show
from rtseg.bench.schema import check_result, read_result
from rtseg.bench.storage.run import StorageOptions, measure_storage
from rtseg.errors import OptionError, SinkError
from rtseg.image_io.find import find_images
from rtseg.system.atomic_files import check_folder_writable, write_bytes, write_json
from rtseg.system.redact import redact

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ResultOptions", "bench"]

_INTERRUPTED, _REGRESSION = 130, 1
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Where the result is written, and what it is compared with.

    Raises:
        OptionError: a number is out of range.
    """

    output: Path | None = None
    """A folder for ``<kind>.json`` and ``<kind>.png``; created if missing."""
    compare: Path | None = None
    """The JSON of an older result."""
    max_regression: float = 10.0
    """Largest allowed change for the worse, in percent."""
    report: Path | None = None
    """A JSON file for the result only."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_regression <= 1e6:
            raise OptionError(f"--max-regression must be in 0 .. 1e6 percent, got {self.max_regression:g}")


def bench(options: StorageOptions | ClipOptions, result_options: ResultOptions, console: Console) -> int:
    """Measure, print, write and compare; return the exit code.

    The code is 1 if a measurement became worse than in the older result by more than allowed, 130 after Ctrl-C, else 0.

    Raises:
        RtsegError: an input or option cannot be used. It is raised before the first run where possible.
    """
    kind = "storage" if isinstance(options, StorageOptions) else "pipeline"
    workload = _workload(options)
    old = read_result(result_options.compare) if result_options.compare is not None else None
    if old is not None:
        check_comparable(old, kind, workload)
    if result_options.output is not None:
        check_matplotlib()
        check_folder_writable(result_options.output, f"--output {result_options.output}")
    load = os.getloadavg()[0]
    with _progress_bar(console) as on_progress:
        if isinstance(options, StorageOptions):
            sections = measure_storage(options, on_progress)
        else:
            sections = measure_clip(options, on_progress)
    result = make_result(kind, sections, workload, load)
    check_result(result)
    show(result, console)
    if result_options.report is not None:
        write_json(result_options.report, result)
    if result_options.output is not None:
        _write(result, result_options.output, console)
    if not result["complete"]:
        return _INTERRUPTED
    return _compare(old, result, result_options.max_regression, console) if old is not None else 0


def _compare(old: dict[str, Any], new: dict[str, Any], percent: float, console: Console) -> int:
    changes = compare(old, new)
    show_changes(old, new, changes, console)
    worse = regressions(changes, percent)
    for change in worse:
        console.print(f"worse by {change.loss:.1f} %, more than {percent:g}: {change.name}", soft_wrap=True)
    return _REGRESSION if worse else 0


def _workload(options: StorageOptions | ClipOptions) -> dict[str, Any]:
    """Return what two results must have in common to be comparable."""
    model = {
        "model": Path(options.model).name,
        "model_size": list(options.model_size) if options.model_size else None,
        "preprocess": list(options.preprocess) if options.preprocess is not None else None,
    }
    if isinstance(options, ClipOptions):
        clip = redact(options.source).rpartition("/")[2]
        return {"source": clip, "frames": options.frames, **model}
    if options.data is not None:
        paths = find_images(options.data)
        images: dict[str, list[int | str]] = {"data": [len(paths), sum(path.stat().st_size for path in paths)]}
    else:
        drawn = options.drawn
        images = {"drawn": [drawn.images, *drawn.size, drawn.format]}
    return {**images, "prefetch_mb": options.prefetch_mb, **(model if options.network else {})}


def _write(result: dict[str, Any], folder: Path, console: Console) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"--output {folder} cannot be created ({error.strerror}): give another") from error
    name = folder / result["kind"]
    # The JSON first, so that it is kept even if the chart fails.
    write_json(name.with_suffix(".json"), result)
    write_bytes(name.with_suffix(".png"), draw(result))
    console.print(f"wrote {name}.json and {name}.png", soft_wrap=True)


@contextmanager
def _progress_bar(console: Console) -> Iterator[ProgressCallback]:
    """Show a progress bar if the console is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, total, text: progress.update(bar, completed=done, total=total, description=text)
