"""``rtseg data``: a look at labelled images before they are trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import typer

__all__ = ["data"]

_SHOWN = 40

data = typer.Typer(help="Look at labelled images before training on them.")


@data.callback()
def _group() -> None:
    """Look at labelled images before training on them."""


@data.command("check")
def check(
    place: str = typer.Argument(..., metavar="KIND:PATH", help="The data, as for --data of `rtseg train`."),
    split: list[str] = typer.Option([], help="A split to check; may be repeated. train and val unless given."),
    channels: int = typer.Option(3, help="As for `rtseg train`: 2 and 4 want images with a plane beside the colours."),
    output: Path | None = typer.Option(None, "--json", help="JSON file for all that was found."),
) -> None:
    """Read every image and mask, list what will hurt with file names, and print how often each class occurs.

    Exit code 0: nothing will hurt. 1: problems were found. 2: the data cannot be opened.
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from rtseg.datasets.check import check_data
    from rtseg.image_io.decode import image_channels
    from rtseg.system.atomic_files import write_text

    console = Console()

    def shown(places: Iterable[int], name: str) -> Iterable[int]:
        return track(list(places), name, console=console, disable=not console.is_terminal, transient=True)

    report = check_data(place, split or ("train", "val"), shown, channels=image_channels(channels))
    if output is not None:
        write_text(output, json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    table = Table("class")
    for found in report.splits:
        table.add_column(f"{found.split} %", justify="right")
        table.add_column("images", justify="right")
    for name in report.splits[0].shares:
        cells = [(f"{100 * found.shares[name]:.2f}", str(found.images_with[name])) for found in report.splits]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    table.add_section()
    table.add_row("void", *(cell for found in report.splits for cell in (f"{100 * found.void_share:.2f}", "")))
    console.print(table)
    for found in report.splits:
        sizes = [f"{height}x{width}" for height, width in found.sizes] or ["no size"]
        if len(sizes) > 1:
            sizes = [f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"]
        console.print(f"{found.name}: {found.images} read, {sizes[0]}", highlight=False, markup=False, soft_wrap=True)
    for problem in report.problems[:_SHOWN]:
        console.print(f"problem: {problem}", highlight=False, markup=False, soft_wrap=True)
    if len(report.problems) > _SHOWN:
        console.print(f"and {len(report.problems) - _SHOWN} more: --json FILE keeps them all", highlight=False)
    console.print(f"{len(report.problems) or 'no'} problem{'s' * (len(report.problems) != 1)} found", highlight=False)
    if report.problems:
        raise typer.Exit(1)
