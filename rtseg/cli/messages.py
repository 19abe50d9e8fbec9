"""What a command prints beside its results: options that every command has, consoles and the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rtseg.errors import OptionError, RtsegError
from rtseg.option import Option

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["MessageOptions", "log_to_stderr", "open_console"]

_PANEL = "Messages"
_LEVELS = ("debug", "info", "warning", "error")
_TABLE_WIDTH = 120
"""In characters, where the output is no terminal."""


@dataclass(frozen=True, slots=True)
class MessageOptions:
    """How much a command prints.

    Raises:
        OptionError: the log level is not known.
    """

    quiet: Annotated[bool, Option(_PANEL, ("--quiet", "-q"))] = False
    """Print only results and errors."""
    verbose: Annotated[bool, Option(_PANEL, ("--verbose", "-v"))] = False
    """Log what is done to standard error. The same as --log-level info."""
    log_level: Annotated[str | None, Option(_PANEL, choices=_LEVELS, default="no log")] = None
    """Log to standard error, from this level on. debug also logs the cause of errors."""

    def __post_init__(self) -> None:
        if self.log_level is not None and self.log_level not in _LEVELS:
            raise OptionError(f"--log-level must be one of {', '.join(_LEVELS)}, got {self.log_level!r}")


def open_console(*, quiet: bool = False, progress: bool = True) -> Console:
    """A console that prints text as it is: file names may contain what rich would read as markup.

    Args:
        quiet: print nothing.
        progress: whether progress bars may be shown, on a terminal.
    """
    from rich.console import Console

    console = Console(
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
        quiet=quiet,
        force_terminal=None if progress else False,
    )
    if not console.is_terminal and console.width < _TABLE_WIDTH:
        console.width = _TABLE_WIDTH
    return console


@contextmanager
def log_to_stderr(options: MessageOptions, command: str, values: dict[str, Any]) -> Iterator[None]:
    """Log to standard error while a command runs, without passwords; log nothing by default."""
    level = options.log_level or ("info" if options.verbose else None)
    if level is None:
        yield
        return
    import logging
    import platform
    import time

    from rtseg.system.redact import RedactingFilter
    from rtseg.version import __version__

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(RedactingFilter())
    root, log = logging.getLogger(), logging.getLogger("rtseg")
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        log.info("rtseg %s, Python %s: %s", __version__, platform.python_version(), command)
        log.debug("options: %s", {name.rpartition("__")[2]: value for name, value in values.items()})
        started_s = time.monotonic()
        yield
        log.info("done in %.1f s", time.monotonic() - started_s)
    except RtsegError as error:
        log.debug("%s", error, exc_info=True)
        raise
    finally:
        root.removeHandler(handler)
        root.setLevel(level_before)
