"""``rtseg eval``: how good the labels of a model are."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from rtseg.cli._options import (
    BACKEND,
    CACHE_GB,
    DEVICE,
    MODEL,
    PRECISION,
    PREFETCH_MB,
    PREPROCESS,
    SIZE,
    SSD_CACHE,
    STORAGE,
    STORAGE_TIMEOUT,
    parse_size,
)

__all__ = ["evaluate"]


def evaluate(
    data: str = typer.Option(..., "--data", "-d", help="KIND:PATH, e.g. camvid:FOLDER."),
    model: str = MODEL,
    split: str = typer.Option("val", help="Split of the data."),
    backend: str = BACKEND,
    precision: str = PRECISION,
    device: str = DEVICE,
    size: str = SIZE,
    preprocess: str = PREPROCESS,
    storage: str = STORAGE,
    prefetch_mb: int = PREFETCH_MB,
    ssd_cache: Path | None = SSD_CACHE,
    cache_gb: float = CACHE_GB,
    storage_timeout: float = STORAGE_TIMEOUT,
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the figures."),
    confusion: list[Path] = typer.Option(
        [], help="File for the confusion matrix: .csv (pixels) or .png (a heat map); may be repeated."
    ),
) -> None:
    """Print IoU and boundary F-score of each class, pixel accuracy and, for a labelled video, flicker.

    Every image is judged at the size of its truth, void left out. Boundary F: contours that lie within 0.75 % of the
    diagonal of each other (Csurka et al. 2013). Flicker: share of pixels whose label changes between two labelled
    frames where the truth does not.
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from rtseg.app.evaluate import Evaluation
    from rtseg.image_io.options import ReadOptions
    from rtseg.preprocess import parse_steps
    from rtseg.system.atomic_files import check_writable, write_text
    from rtseg.visualize.confusion_matrix import check_confusion_path, write_confusion

    if output is not None:
        check_writable(output, f"--output {output}")
    for path in confusion:
        check_confusion_path(path)
        check_writable(path, f"--confusion {path}")
    console = Console(markup=False, emoji=False, highlight=False)
    wanted = parse_size(size) if size else None
    opened = Evaluation(
        model,
        data,
        split,
        preprocess=parse_steps(preprocess),
        backend=backend,
        precision=precision,
        device=device,
        size=wanted,
        reading=ReadOptions(
            storage=storage,
            prefetch_mb=prefetch_mb,
            ssd_cache=ssd_cache,
            cache_gb=cache_gb,
            timeout_s=storage_timeout,
        ),
    )
    with opened as evaluation:
        if evaluation.notice:
            console.print(evaluation.notice, soft_wrap=True)
        places = range(len(evaluation.dataset))
        facts = evaluation.run(track(places, "evaluating", console=console, disable=not console.is_terminal))
        if evaluation.reading_notice:
            console.print(evaluation.reading_notice, soft_wrap=True)

    def percent(share: float | None) -> str:
        return f"{100 * share:.2f}" if share is not None else "-"

    title = f"{facts['model']} on {facts['data']}"
    console.print(f"{title}, {facts['backend']} {facts['precision']}", soft_wrap=True)
    table = Table("class")
    table.add_column("IoU %", justify="right")
    table.add_column("boundary F %", justify="right")
    for name, iou in facts["iou"].items():
        table.add_row(name, percent(iou), percent(facts["boundary_f_by_class"][name]))
    table.add_section()
    table.add_row("mean (mIoU)", percent(facts["miou"]), percent(facts["boundary_f"]))
    table.add_row("pixel accuracy", percent(facts["pixel_accuracy"]))
    table.add_row("flicker", percent(facts["flicker"]))
    console.print(table)
    if output is not None:
        write_text(output, json.dumps(facts, indent=2) + "\n")
    for path in confusion:
        write_confusion(path, facts["confusion"], tuple(facts["iou"]), title)
