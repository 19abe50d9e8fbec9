"""Run the measurements that are compared in turn: all of them once, then all of them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from signal import SIGTERM, getsignal, signal
from threading import current_thread, main_thread
from typing import TypeVar

__all__ = ["ProgressCallback", "ignore_progress", "run_interleaved", "sigterm_as_interrupt"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ProgressCallback = Callable[[int, int, str], None]
"""Called before each run with the number of finished runs, the number of all runs, and what comes next."""


def ignore_progress(done: int, total: int, description: str) -> None:
    """Do nothing: the default ``ProgressCallback``."""


def run_interleaved(
    runs: Mapping[K, Callable[[], V]], rounds: int, on_progress: ProgressCallback = ignore_progress
) -> tuple[dict[K, list[V]], bool]:
    """Call all ``runs`` once in every round.

    Returns the results of each run, and whether all rounds were completed: Ctrl-C keeps the results so far.

    Raises:
        RtsegError: any error of a run.
    """
    results: dict[K, list[V]] = {key: [] for key in runs}
    try:
        for round_ in range(rounds):
            for index, (key, run) in enumerate(runs.items()):
                description = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
                on_progress(round_ * len(runs) + index, rounds * len(runs), f"round {round_ + 1}: {description}")
                results[key].append(run())
    except KeyboardInterrupt:
        return {key: values for key, values in results.items() if values}, False
    return results, True


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt within the block, so that temporary files are removed."""
    if current_thread() is not main_thread():  # only the main thread receives signals
        yield
        return
    before, owner = getsignal(SIGTERM), os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a process that a library forked; it owns none of the files
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal(SIGTERM, interrupt)
    try:
        yield
    finally:
        signal(SIGTERM, before)
