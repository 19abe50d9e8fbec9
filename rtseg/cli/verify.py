"""``rtseg verify``: does a changed model still label right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli._options import BACKEND, DEVICE, PRECISION

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.deploy.verify import Verdict

__all__ = ["verify"]

_REFERENCE = "What is taken for right"
_IMAGES = "On which images"
_GATE = "What may be lost"


def verify(
    reference: str = typer.Argument(..., help="A model file, or the name of a bundled one.", show_default=False),
    candidate: str = typer.Argument(..., help="The same, or a TensorRT engine.", show_default=False),
    data: str = typer.Option(
        "", "--data", "-d", help="KIND:PATH, e.g. camvid:FOLDER; drawn streets unless given.", rich_help_panel=_IMAGES
    ),
    split: str = typer.Option("val", help="Split of the data.", rich_help_panel=_IMAGES),
    frames: int | None = typer.Option(
        None, help="How many images, spread over the data; all unless given.", rich_help_panel=_IMAGES
    ),
    max_drop: float | None = typer.Option(
        None, help="Points of mIoU; unless given 0.05 for fp16, 0.5 for int8.", rich_help_panel=_GATE
    ),
    min_agreement: float | None = typer.Option(
        None, help="Share of equal pixels, 0 to 1; unless given 0.995 for fp16, none for int8.", rich_help_panel=_GATE
    ),
    reference_backend: str = typer.Option("openvino", help="As --backend.", rich_help_panel=_REFERENCE),
    reference_precision: str = typer.Option("fp32", help="As --precision.", rich_help_panel=_REFERENCE),
    backend: str = BACKEND,
    precision: str = PRECISION,
    device: str = DEVICE,
    worst: Path | None = typer.Option(None, help="Folder for drawings of the images that agree least."),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the verdict."),
) -> None:
    """Compare the labels of CANDIDATE with those of REFERENCE, in fp32 on the CPU, and judge them.

    Prints pixel agreement and the IoU of both by class. The exit code is 0 where CANDIDATE is good enough, 1 where it
    is not, 2 where the two cannot be compared. One model in two precisions: rtseg verify M M --precision int8.
    """
    from rich.console import Console
    from rich.progress import Progress

    from rtseg.app.verify import Comparison, ComparisonOptions
    from rtseg.system.atomic_files import check_writable, write_text

    options = ComparisonOptions(
        reference=reference,
        candidate=candidate,
        data=data or None,
        split=split,
        max_drop=max_drop,
        min_agreement=min_agreement,
        reference_backend=reference_backend,
        reference_precision=reference_precision,
        backend=backend,
        precision=precision,
        device=device,
        frames=frames,
        worst=worst,
    )
    if output is not None:
        check_writable(output, f"--output {output}")
    console = Console(markup=False, emoji=False, highlight=False)
    with (
        Comparison(options) as comparison,
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task("comparing", total=None)
        verdict = comparison.run(lambda done, total: progress.update(bar, completed=done, total=total))
    _tell(console, verdict)
    if output is not None:
        write_text(output, json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False) + "\n")
    if not verdict.passed:
        raise typer.Exit(1)


def _tell(console: Console, verdict: Verdict) -> None:
    from rich.table import Table

    for what, facts in (("reference", verdict.reference), ("candidate", verdict.candidate)):
        line = f"{what}: {facts['model']} in {facts['precision']}, {facts['backend']} on {facts['device']}"
        console.print(line, soft_wrap=True)
    table = Table("IoU %")
    for column in ("reference", "candidate", "difference"):
        table.add_column(column, justify="right")
    for name, (before, after) in verdict.iou.items():
        table.add_row(name, f"{100 * before:.2f}", f"{100 * after:.2f}", f"{100 * (after - before):+z.2f}")
    if verdict.miou is not None:
        before, after = verdict.miou
        table.add_section()
        table.add_row("mean (mIoU)", f"{100 * before:.2f}", f"{100 * after:.2f}", f"{100 * (after - before):+z.2f}")
        console.print(table)
    console.print(f"{verdict.agreement:.3%} of the pixels agree on {verdict.data}", soft_wrap=True)
    for name, agreement in verdict.worst[:3]:
        console.print(f"  {agreement:.2%} on {name}", soft_wrap=True)
    outcome = "passed" if verdict.passed else f"failed: {'; '.join(verdict.reasons)}"
    console.print(f"{outcome} (judged by {verdict.judged_by})", soft_wrap=True)
