"""The command line: arguments in, exit code out. Every error is one line, and no text shows a secret.

Code 2: the user can fix it. Code 1: a model that was made from another labels too differently from it, or a check
failed, or nobody reads the output any more. Code 70: a bug in rtseg; --log-level debug adds its traceback. Code 130:
Ctrl-C. Code 143: SIGTERM.

The module of a command is imported when the command is run or its help is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from errno import ENOSPC
from functools import cached_property
from itertools import pairwise
from typing import Any, TextIO

import typer

from rtseg.cli.command_table import COMMANDS, CommandGroup
from rtseg.errors import OptionError, ProofError, RtsegError
from rtseg.version import __version__

__all__ = ["main"]

_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]
"""The base of what typer raises for a wrong command line. Where its class is defined differs between versions."""

_ADDRESS_SPACE = 2_000_000_000
"""Bytes. Most of it is reserved and never used: OpenBLAS, OpenVINO and OpenCV map memory for every thread."""

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
    _check_address_space()


def _check_address_space() -> None:
    """Refuse a limit within which the native libraries would crash without a message.

    Raises:
        OptionError: ``ulimit -v`` is too low.
    """
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE:
        raise OptionError(
            f"the address space is limited to {limit / 1e6:.0f} MB, but the libraries reserve more: "
            f"raise the limit with `ulimit -v {_ADDRESS_SPACE // 1024}`"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _end_cleanly_at_sigterm()
    with _redacted_output(arguments):
        try:
            code = app(args=arguments or ["--help"], prog_name="rtseg", standalone_mode=False)
            sys.stdout.flush()  # a full disk is found here, not while the interpreter ends
        except Exception as error:  # noqa: BLE001 - the last line of defence
            return _report_error(error, arguments, is_process=argv is None)
    return code if isinstance(code, int) else 0


def _end_cleanly_at_sigterm() -> None:
    """Make SIGTERM run all ``finally`` blocks, which write reports. Commands that can do more set their own handler."""
    import signal

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def _report_error(error: Exception, arguments: list[str], *, is_process: bool) -> int:
    """Print ``error`` on one line; returns the exit code."""
    if isinstance(error, RtsegError):
        return _print_error(str(error), code=1 if isinstance(error, ProofError) else 2)
    if isinstance(error, _USAGE_ERROR):
        command = error.ctx.command_path if error.ctx is not None else "rtseg"
        return _print_error(f"{error.format_message().rstrip('.')}: see `{command} --help`")
    if isinstance(error, typer.Abort):
        if is_process:  # the process is about to end: let another Ctrl-C end it without a traceback
            import signal

            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _print_error("stopped", code=130)
    if isinstance(error, BrokenPipeError):  # the reader has gone (``| head``)
        return _drop_output(is_process, code=1)
    if isinstance(error, OSError) and error.filename is not None:
        return _print_error(f"{error.strerror}: {os.fsdecode(error.filename)}")
    if isinstance(error, OSError) and error.errno == ENOSPC:
        _print_error("the output cannot be written: the disk is full: free some space")
        return _drop_output(is_process, code=2)
    if isinstance(error, MemoryError):
        return _print_error("there is not enough memory: use smaller images, or close other programs")
    return _report_bug(error, arguments)


def _report_bug(error: Exception, arguments: list[str]) -> int:
    import traceback

    hint = "add --log-level debug for the traceback"
    if any(f"{first}={second}" == "--log-level=debug" for first, second in pairwise(arguments)) or (
        "--log-level=debug" in arguments
    ):
        sys.stderr.write("".join(traceback.format_exception(error)))
        hint = "the traceback is above"
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - pathlib is not loaded yet
    return _print_error(
        f"{type(error).__name__}: {error} ({where}): this is a bug in rtseg, please report it; {hint}", code=70
    )


def _drop_output(is_process: bool, code: int) -> int:
    """Discard what is left in the buffer of standard output: the interpreter would fail to write it at its end."""
    if is_process:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _print_error(text: str, code: int = 2) -> int:
    line = " ".join(text.split())
    # A name must not move the cursor of a terminal, or write to its clipboard.
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
    print(f"rtseg: {shown}", file=sys.stderr)
    return code


@contextmanager
def _redacted_output(arguments: list[str]) -> Iterator[None]:
    """Send everything that is printed through ``rtseg.system.redact``."""
    with (
        redirect_stdout(_RedactedStream(sys.stdout, arguments)),
        redirect_stderr(_RedactedStream(sys.stderr, arguments)),
    ):
        yield


class _RedactedStream:
    """A text stream that hides the secrets of all URLs, and escapes what its encoding does not have."""

    def __init__(self, stream: TextIO, arguments: list[str]) -> None:
        self._stream = stream
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @cached_property
    def _secrets(self) -> list[str]:
        """User parts and passwords of the URLs in the arguments, in any form in which a message may quote them."""
        from rtseg.system.redact import find_secrets

        return [secret for argument in self._arguments if "://" in argument for secret in find_secrets(argument)]

    def write(self, text: str) -> int:
        if self._secrets_may_be_in(text):
            from rtseg.system.redact import redact

            text = redact(text, *self._secrets)
        encoding = self._stream.encoding or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def _secrets_may_be_in(self, text: str) -> bool:
        return any(sign in text for sign in (":/", "@", "=", "uthorization")) or any(
            "://" in argument for argument in self._arguments
        )
