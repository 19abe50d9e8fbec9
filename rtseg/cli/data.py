"""``rtseg data``: look at labelled images before training on them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.datasets.check import DataReport

__all__ = ["check"]

EXAMPLES = (
    "rtseg data check camvid:CamVid",
    "rtseg data check pairs:images,masks,classes=road+car --split train --report problems.json",
)
_SHOWN = 40


def check(
    messages: MessageOptions,
    data: str = typer.Argument(..., metavar="KIND:PATH", help="The data, as for --data of `rtseg train`."),
    split: list[str] = typer.Option([], help="Split to check. Can be repeated.", show_default="train and val"),
    channels: int = typer.Option(3, help="Image channels, as for `rtseg train`. 2 and 4: with an extra channel."),
    report: Path | None = typer.Option(None, metavar="FILE.json", help="Write all problems to this JSON file."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a report that exists."),
) -> None:
    """Read every image and mask, list problems with their files, and print how often each class occurs.

    Exit code 0: no problems. 1: problems were found. 2: the data cannot be opened.
    """
    from rich.progress import track

    from rtseg.app.existing_report import locked_results
    from rtseg.datasets.check import check_data
    from rtseg.image_io.decode import image_channels
    from rtseg.system.atomic_files import write_json

    notes = open_console(quiet=messages.quiet)

    def with_progress(indices: Iterable[int], name: str) -> Iterable[int]:
        return track(list(indices), name, console=notes, disable=not notes.is_terminal, transient=True)

    with locked_results(report, overwrite=overwrite):
        result = check_data(data, split or ("train", "val"), with_progress, channels=image_channels(channels))
        if report is not None:
            write_json(report, result.to_dict())
    _print_result(open_console(), result)
    if result.problems:
        raise typer.Exit(1)


def _print_result(console: Console, result: DataReport) -> None:
    from rich.table import Table

    table = Table("class")
    for one in result.splits:
        table.add_column(f"{one.split} %", justify="right")
        table.add_column("images", justify="right")
    for name in result.splits[0].shares:
        cells = [(f"{100 * one.shares[name]:.2f}", str(one.images_with[name])) for one in result.splits]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    table.add_section()
    table.add_row("void", *(cell for one in result.splits for cell in (f"{100 * one.void_share:.2f}", "")))
    console.print(table, soft_wrap=False)
    for one in result.splits:
        sizes = [f"{height}x{width}" for height, width in one.sizes] or ["no size"]
        if len(sizes) > 1:
            sizes = [f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"]
        console.print(f"{one.name}: {one.images} read, {sizes[0]}")
    for problem in result.problems[:_SHOWN]:
        console.print(f"problem: {problem}")
    if len(result.problems) > _SHOWN:
        console.print(f"and {len(result.problems) - _SHOWN} more: --report FILE lists all")
    console.print(f"{len(result.problems) or 'no'} problem{'s' * (len(result.problems) != 1)} found")
