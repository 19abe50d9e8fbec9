"""The command line: arguments in, exit code out. A user's error is one line and code 2; a bug is a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

import rtseg
from rtseg.cli import evaluate, export, models, stream, train
from rtseg.errors import RtsegError

__all__ = ["main"]

app = typer.Typer(
    name="rtseg",
    help="Segment live video in real time: a frame goes in, a class for every pixel comes out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("stream")(stream.stream)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("models")(models.models)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rtseg {rtseg.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Segment live video in real time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    try:
        app(args=None if argv is None else list(argv))
    except RtsegError as error:
        print(f"rtseg: {error}", file=sys.stderr)
        return 2
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0
