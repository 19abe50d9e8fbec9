"""``rtseg data get``: download a public data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["get"]

EXAMPLES = (
    "rtseg data get",
    "rtseg data get comma10k",
    "rtseg data get camvid --output CamVid",
)


def get(
    messages: MessageOptions,
    name: str = typer.Argument("", metavar="[NAME]", help="The data set; without a name, all are listed."),
    output: Path | None = typer.Option(None, metavar="FOLDER", help="Where to unpack it.", show_default="the name"),
    offline: bool = typer.Option(False, "--offline", help="Use only what is in the cache folder."),
    keep_archive: bool = typer.Option(False, "--keep-archive", help="Keep the archive in the cache folder."),
) -> None:
    """Download a public data set and unpack it. The licence is shown first.

    The same command again continues where it was interrupted.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from rtseg.published.data_sets import find_data, get_data

    console = open_console(quiet=messages.quiet)
    if not name:
        _list(open_console())
        return
    entry = find_data(name)
    folder = output or Path(name)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(entry.file_name, total=None)
        count = get_data(
            entry,
            folder,
            offline=offline,
            keep_archive=keep_archive,
            notify=console.print,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    use = "any use" if entry.is_free else "no commercial use"
    console.print(
        f"{folder}: {count} files; {use}; train with --data {entry.data.format(folder=folder)}", soft_wrap=True
    )


def _list(console: Console) -> None:
    from rich.table import Table

    from rtseg.published.data_sets import DATA_SETS

    table = Table("data set", "about GB", "licence", "from")
    for entry in DATA_SETS.values():
        table.add_row(entry.name, f"{entry.gigabytes:g}", entry.licence, entry.url)
    console.print(table, soft_wrap=False)
