"""Options of the commands that take several sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtseg.errors import OptionError

__all__ = ["ConfigFile", "SourceNames", "name_sources"]

SourceNames = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", rich_help_panel="Input", help="The same as SOURCE. Can be repeated."),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        rich_help_panel="Input",
        help="Take the sources from a file with a table for each; options of the command line take precedence.",
    ),
]


def name_sources(arguments: list[str] | None, options: list[str] | None, config: Path | None) -> list[str]:
    """Return the sources that are named as arguments and with --source, each once.

    Raises:
        OptionError: --config names sources too.
    """
    named = list(dict.fromkeys([*(arguments or []), *(options or [])]))
    if config is not None and named:
        raise OptionError(f"--config {config} names the sources: leave SOURCE and --source out")
    return named
