"""``rtseg eval``: how good the labels of a model are."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from rtseg.cli._options import parse_size

__all__ = ["evaluate"]


def evaluate(
    data: str = typer.Option(..., "--data", "-d", help="KIND:PATH, e.g. camvid:FOLDER."),
    model: str = typer.Option("icnet-camvid", "--model", "-m", help="A model file, or the name of a bundled one."),
    split: str = typer.Option("val", help="Split of the data."),
    backend: str = typer.Option("auto", help="auto, openvino, onnxruntime or torch."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    size: str = typer.Option("", help="Input size of the model, HEIGHTxWIDTH; its own unless given."),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the figures."),
) -> None:
    """Print mIoU, IoU of each class and pixel accuracy, every picture judged at the size of its truth."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from rtseg.errors import MissingExtra
    from rtseg.files import write_text
    from rtseg.sinks._part import check_writable

    try:
        from rtseg.evaluation import Evaluation
    except ModuleNotFoundError as error:
        raise MissingExtra.of("evaluation", error.name, "train") from error

    if output is not None:
        check_writable(output, f"--output {output}")
    console = Console()
    wanted = parse_size(size) if size else None
    with Evaluation(model, data, split, backend=backend, precision=precision, device=device, size=wanted) as evaluation:
        places = range(len(evaluation.dataset))
        facts = evaluation.run(track(places, "evaluating", console=console, disable=not console.is_terminal))
    table = Table(
        "class",
        "IoU %",
        title=f"{facts['model']} on {facts['data']}, {facts['backend']} {facts['precision']}",
    )
    for name, iou in facts["iou"].items():
        table.add_row(name, f"{100 * iou:.2f}" if iou is not None else "-")
    table.add_section()
    table.add_row("mIoU", f"{100 * facts['miou']:.2f}")
    table.add_row("pixel accuracy", f"{100 * facts['pixel_accuracy']:.2f}")
    console.print(table)
    if output is not None:
        write_text(output, json.dumps(facts, indent=2) + "\n")
