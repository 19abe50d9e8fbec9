"""``rtseg verify``: whether a changed model still gives the right labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.app.options import ComparisonOptions
from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.deploy.verify import Verdict

__all__ = ["verify"]

EXAMPLES = (
    "rtseg verify icnet-camvid mine.onnx --data camvid:CamVid",
    "rtseg verify mine.onnx mine.onnx --precision int8 --data camvid:CamVid",
    "rtseg verify mine.onnx engines/mine-fp16-rtx-sm_86+.engine --worst worst --report verdict.json",
)


def verify(
    options: ComparisonOptions,
    messages: MessageOptions,
    report: Path | None = typer.Option(
        None, metavar="FILE.json", help="Write the verdict and all figures to this JSON file.", rich_help_panel="Output"
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace results that exist.", rich_help_panel="Output"),
) -> None:
    """Compare the labels of CANDIDATE with those of REFERENCE, which runs in fp32 on the CPU.

    Prints how many pixels agree, and the IoU of both models for each class. Exit code 0: CANDIDATE is good enough. 1:
    it is not. 2: the two cannot be compared. To check another precision of one model, give the model twice.
    """
    from rich.progress import Progress

    from rtseg.app.existing_report import locked_results
    from rtseg.app.verify import Comparison
    from rtseg.system.atomic_files import write_json

    notes = open_console(quiet=messages.quiet)
    with (
        locked_results(report, overwrite=overwrite),
        Comparison(options) as comparison,
        Progress(console=notes, disable=not notes.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task("comparing", total=None)
        verdict = comparison.run(lambda done, total: progress.update(bar, completed=done, total=total))
        _print_verdict(open_console(), verdict)
        if report is not None:
            write_json(report, verdict.to_dict())
    if not verdict.passed:
        raise typer.Exit(1)


def _print_verdict(console: Console, verdict: Verdict) -> None:
    from rich.table import Table

    for role, facts in (("reference", verdict.reference), ("candidate", verdict.candidate)):
        console.print(f"{role}: {facts['model']} in {facts['precision']}, {facts['backend']} on {facts['device']}")
    table = Table("IoU %")
    for column in ("reference", "candidate", "difference"):
        table.add_column(column, justify="right")
    for name, (before, after) in verdict.iou.items():
        table.add_row(name, f"{100 * before:.2f}", f"{100 * after:.2f}", f"{100 * (after - before):+z.2f}")
    if verdict.miou is not None:
        before, after = verdict.miou
        table.add_section()
        table.add_row("mean (mIoU)", f"{100 * before:.2f}", f"{100 * after:.2f}", f"{100 * (after - before):+z.2f}")
        console.print(table, soft_wrap=False)
    console.print(f"{verdict.agreement:.3%} of the pixels agree on {verdict.data}")
    for name, agreement in verdict.worst[:3]:
        console.print(f"  {agreement:.2%} on {name}")
    outcome = "passed" if verdict.passed else f"failed: {'; '.join(verdict.reasons)}"
    console.print(f"{outcome} (judged by {verdict.judged_by})")
