"""When this process was last suspended (Ctrl-Z, SIGSTOP): time that passed meanwhile is nobody's fault."""

from __future__ import annotations

import signal
import time

__all__ = ["resumed_s", "watch_suspension"]

_resumed_s = float("-inf")


def watch_suspension() -> None:
    """Note from now on when the process is resumed. Call it on the main thread, for the rest of the process."""
    signal.signal(signal.SIGCONT, _note)


def _note(number: int, frame: object) -> None:
    global _resumed_s
    _resumed_s = time.monotonic()


def resumed_s() -> float:
    """``time.monotonic()`` at which the process was last resumed; minus infinity if it was never suspended."""
    return _resumed_s
