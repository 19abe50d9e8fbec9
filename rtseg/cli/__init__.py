"""The command line: arguments in, exit code out. A user's error is one line and code 2; a bug is a traceback.

Code 1 says that what was made of a model labels too differently from it; code 130 that the user stopped it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from rtseg.cli import (
    average,
    background,
    bench,
    build_engine,
    calibrate,
    data,
    doctor,
    evaluate,
    export,
    label,
    models,
    predict,
    stream,
    train,
    verify,
)
from rtseg.errors import ProofError, RtsegError
from rtseg.version import __version__

__all__ = ["main"]

_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]
"""The base of what typer raises of a wrong command line. Where its class lives differs between versions."""


class _Commands(TyperGroup):
    """Tells Ctrl-C where no command minds it. Of what typer itself makes of it, some versions leave nothing to see."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Abort from interrupt


app = typer.Typer(
    name="rtseg",
    cls=_Commands,
    help="Segment live video in real time: a frame goes in, a class for every pixel comes out.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("stream")(stream.stream)
app.command("train")(train.train)
app.command("average")(average.average)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("calibrate")(calibrate.calibrate)
app.command("build-engine")(build_engine.build_engine)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("models")(models.models)
app.command("background")(background.background)
app.command("label")(label.label)
app.add_typer(data.data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rtseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Segment live video in real time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    wanted = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=wanted or ["--help"], prog_name="rtseg", standalone_mode=False)
    except ProofError as error:
        return _complain(str(error), code=1)
    except RtsegError as error:
        return _complain(str(error))
    except _USAGE_ERROR as error:
        where = error.ctx.command_path if error.ctx is not None else "rtseg"
        return _complain(f"{error.format_message().rstrip('.')}: see `{where} --help`")
    except typer.Abort:
        if argv is None:  # the process is ours, and about to end: another Ctrl-C ends it without a traceback
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _complain("stopped", code=130)
    except OSError as error:
        if error.filename is None:
            raise  # not about something that the user named
        return _complain(f"{error.strerror}: {error.filename}")
    return code if isinstance(code, int) else 0


def _complain(text: str, code: int = 2) -> int:
    print(f"rtseg: {' '.join(text.split())}", file=sys.stderr)
    return code
