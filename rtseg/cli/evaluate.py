"""``rtseg eval``: how good the labels of a model are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rtseg.app.options import EvaluationOptions
from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["evaluate"]

EXAMPLES = (
    "rtseg eval --data camvid:CamVid --split test",
    "rtseg eval --model runs/mine.onnx --data pairs:images,masks,classes=road+car --report figures.json",
    "rtseg eval --data camvid:CamVid --precision int8 --confusion matrix.png",
)


def evaluate(
    options: EvaluationOptions,
    messages: MessageOptions,
    report: Path | None = typer.Option(
        None, metavar="FILE.json", help="Write all figures to this JSON file.", rich_help_panel="Output"
    ),
    confusion: list[Path] = typer.Option(
        [],
        metavar="FILE",
        help="Write the confusion matrix to this file: pixel counts (.csv) or a heat map (.png). Can be repeated.",
        rich_help_panel="Output",
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace results that exist.", rich_help_panel="Output"),
) -> None:
    """Print IoU and boundary F-score of each class, pixel accuracy and, for a labelled video, flicker.

    Every image is measured at the size of its ground truth, and void pixels are ignored. Boundary F-score: contours
    count as equal within 0.75 % of the image diagonal (Csurka et al. 2013). Flicker: share of pixels whose label
    changes between two labelled frames while the ground truth does not. Flicker along the motion: share of pixels
    whose label is another than the same point had in the frame before. 95 % interval: bootstrap over videos, blocks of
    few videos, or single images; it says nothing about places, cameras and weather that the data do not have.
    """
    from rich.progress import track

    from rtseg.app.evaluate import Evaluation
    from rtseg.app.existing_report import locked_results
    from rtseg.system.atomic_files import write_json
    from rtseg.visualize.confusion_matrix import check_confusion_path, write_confusion

    for path in confusion:
        check_confusion_path(path)
    notes = open_console(quiet=messages.quiet)
    results = locked_results(report, overwrite=overwrite, others=[("--confusion", path) for path in confusion])
    with results, Evaluation(options) as evaluation:
        if evaluation.notice:
            notes.print(evaluation.notice)
        indices = range(len(evaluation.dataset))
        figures = evaluation.run(track(indices, "evaluating", console=notes, disable=not notes.is_terminal))
        if evaluation.reading_notice:
            notes.print(evaluation.reading_notice)
        title = f"{figures['model']} on {figures['data']}"
        _print_figures(open_console(), title, figures)
        if report is not None:
            write_json(report, figures)
        for path in confusion:
            write_confusion(path, figures["confusion"], tuple(figures["iou"]), title)


def _print_figures(console: Console, title: str, figures: dict[str, Any]) -> None:
    from rich.table import Table

    def percent(share: float | None) -> str:
        return f"{100 * share:.2f}" if share is not None else "-"

    console.print(f"{title}, {figures['backend']} {figures['precision']}")
    table = Table("class")
    table.add_column("IoU %", justify="right")
    table.add_column("boundary F %", justify="right")
    for name, iou in figures["iou"].items():
        table.add_row(name, percent(iou), percent(figures["boundary_f_by_class"][name]))
    table.add_section()
    table.add_row("mean (mIoU)", percent(figures["miou"]), percent(figures["boundary_f"]))
    if figures["miou_interval"]:
        low, high = figures["miou_interval"]
        table.add_row("95 % interval", f"{percent(low)}-{percent(high)}")
    table.add_row("pixel accuracy", percent(figures["pixel_accuracy"]))
    table.add_row("flicker", percent(figures["flicker"]))
    table.add_row("flicker along the motion", percent(figures["motion_flicker"]))
    console.print(table, soft_wrap=False)
    if figures["miou_interval"]:
        console.print(f"the interval is a bootstrap: {figures['interval_units']} resampled")
