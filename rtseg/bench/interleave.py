"""What is compared is measured in turn: all of it once, then all of it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from signal import SIGTERM, getsignal, signal
from threading import current_thread, main_thread
from typing import TypeVar

__all__ = ["Tell", "in_turn", "terminable"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Tell = Callable[[int, int, str], None]
"""Told what is done before each run: how many runs are done, of how many, and what comes."""


def in_turn(
    runs: Mapping[K, Callable[[], V]], rounds: int, tell: Tell = lambda done, total, what: None
) -> tuple[dict[K, list[V]], bool]:
    """What each of ``runs`` gave in each of ``rounds``, and whether all were made: Ctrl-C keeps what there is.

    Raises:
        RtsegError: whatever a run raises.
    """
    results: dict[K, list[V]] = {key: [] for key in runs}
    try:
        for round_ in range(rounds):
            for place, (key, run) in enumerate(runs.items()):
                tell(round_ * len(runs) + place, rounds * len(runs), f"round {round_ + 1}: {_words(key)}")
                results[key].append(run())
    except KeyboardInterrupt:
        return {key: values for key, values in results.items() if values}, False
    return results, True


def _words(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM within is a KeyboardInterrupt, so that the files which were written are removed."""
    if current_thread() is not main_thread():  # only the main thread is told of signals
        yield
        return
    before, owner = getsignal(SIGTERM), os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a library has forked: its process is to end, and owns none of the files
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal(SIGTERM, interrupt)
    try:
        yield
    finally:
        signal(SIGTERM, before)
