"""Notices that a network is back while the connection still waits, because TCP sends again ever more rarely."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import TypeVar

from rtseg.sources.read_thread import NothingRead, ReadThread

__all__ = ["PROBE_S", "SilenceWatch"]

T = TypeVar("T")

PROBE_S = 0.3
"""How long the probe may take. A server that needs longer to answer is not known to be there, and so not to be back."""
_QUIET_S, _QUIET_FRAMES = 0.5, 4
"""After so long without a packet, in seconds and in frames, the server is asked."""
_LOOK_S = 0.1

_EVERY_S = 0.25
_GRACE_S = 0.2
"""A connection that survives has sent something by then."""


class SilenceWatch:
    """Asks a silent server on a thread of its own.

    A server that answers from the beginning merely sends nothing, which is for the timeout of the reader. One that did
    not answer and now does was away; if its connection stays silent, a new one is sooner there.

    Args:
        probe: whether the server answers, soon; see ``server_probe``.
    """

    def __init__(self, probe: Callable[[], bool | None]) -> None:
        self._probe = probe
        self._end: Event | None = None
        self._back_s = float("inf")
        self.is_back = False
        """Whether the last ``get`` ended because the server was away and is back."""

    def get(self, reader: ReadThread[T], timeout_s: float, step_s: float | None) -> T:
        """The next item of ``reader``, whose frames come every ``step_s`` seconds; None watches nothing.

        Raises:
            NothingRead: none came within ``timeout_s``, or the server was away meanwhile and is back.
        """
        quiet_s = timeout_s if step_s is None else max(_QUIET_S, _QUIET_FRAMES * step_s)
        if quiet_s >= timeout_s:
            return reader.get(timeout_s)
        deadline_s, wait_s = time.monotonic() + timeout_s, quiet_s
        self.is_back = False
        try:
            while True:
                try:
                    return reader.get(wait_s)
                except NothingRead:
                    wait_s = min(_LOOK_S, deadline_s - time.monotonic())
                    self.is_back = self._was_away()
                    if wait_s <= 0 or self.is_back:
                        raise
        finally:
            self._stop()

    def _was_away(self) -> bool:
        """Whether the server was away and is back, and the connection has had time to go on."""
        if self._end is None:
            self._end, self._back_s = Event(), float("inf")
            Thread(target=self._ask, args=(self._end,), name="rtseg-silence", daemon=True).start()
        return time.monotonic() > self._back_s + _GRACE_S

    def _stop(self) -> None:
        if self._end is not None:
            self._end.set()
            self._end = None

    def _ask(self, end: Event) -> None:
        was_away = False
        while not end.is_set():
            asked_s = time.monotonic()
            answers = self._probe()
            if answers is not False:
                if answers and was_away and not end.is_set():
                    self._back_s = time.monotonic()
                return
            was_away = True
            end.wait(max(0.0, asked_s + _EVERY_S - time.monotonic()))
