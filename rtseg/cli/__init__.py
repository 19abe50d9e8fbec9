"""The command line: arguments in, exit code out. A user's error is one line and code 2; a bug is a traceback.

Code 1: a model that was made from another labels too differently from it, or a check failed. Code 130: Ctrl-C.
The module of a command is imported when the command is run or its help is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from rtseg.cli.command_table import COMMANDS, CommandGroup
from rtseg.errors import ProofError, RtsegError
from rtseg.version import __version__

__all__ = ["main"]

_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]
"""The base of what typer raises for a wrong command line. Where its class is defined differs between versions."""

app = typer.Typer(
    name="rtseg",
    cls=CommandGroup.from_entries(COMMANDS),
    help="Segment live video in real time: each frame gets a class for every pixel.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(is_asked_for: bool) -> None:
    if is_asked_for:
        print(f"rtseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print only results and errors."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is done to standard error."),
    log_level: str | None = typer.Option(None, help="Log from this level on.", show_default="no log"),
) -> None:
    """Segment live video in real time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=arguments or ["--help"], prog_name="rtseg", standalone_mode=False)
    except ProofError as error:
        return _print_error(str(error), code=1)
    except RtsegError as error:
        return _print_error(str(error))
    except _USAGE_ERROR as error:
        command = error.ctx.command_path if error.ctx is not None else "rtseg"
        return _print_error(f"{error.format_message().rstrip('.')}: see `{command} --help`")
    except typer.Abort:
        if argv is None:  # the process is about to end: let another Ctrl-C end it without a traceback
            import signal

            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _print_error("stopped", code=130)
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that the user named
        return _print_error(f"{error.strerror}: {error.filename}")
    return code if isinstance(code, int) else 0


def _print_error(text: str, code: int = 2) -> int:
    print(f"rtseg: {' '.join(text.split())}", file=sys.stderr)
    return code
