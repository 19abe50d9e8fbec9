"""The state of the page and of all its sources, made once for all viewers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from rtseg.version import __version__
from rtseg.web.clients import Clients
from rtseg.web.machine import MachineLoad
from rtseg.web.sources import Sources

__all__ = ["PageStatus"]

_EVERY_S = 0.5


class PageStatus:
    """Brought up to date twice a second. Use it on one event loop.

    Args:
        sources: of the page.
        clients: those who watch.
    """

    def __init__(self, sources: Sources, clients: Clients) -> None:
        self._sources = sources
        self._clients = clients
        self._started_s = time.monotonic()
        self._machine = MachineLoad()
        self._next = asyncio.Event()
        self.values: dict[str, Any] = {}
        """As JSON values."""
        self.hello = ""
        """Message to viewers with what seldom changes."""
        self._message = ""
        self._shown: list[Any] | None = None
        """What ``hello`` says: number, name and model of each source."""

    def update(self) -> None:
        """Look at the sources, and wake those who wait."""
        self.values = {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "viewers": self._clients.present,
            "machine": self._machine(),
            "sources": [source.status() for source in self._sources],
        }
        self._message = _to_json({"type": "status", **self.values})
        shown = [(source.number, source.name, source.spec) for source in self._sources]
        if shown != self._shown:
            self._shown = shown
            self.hello = _to_json({"type": "hello", "sources": [source.facts() for source in self._sources]})
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    def message(self, *, skipped: int) -> str:
        """Message to a viewer, for whom so many frames were left out."""
        return f'{self._message[:-1]},"skipped":{skipped}}}'

    async def wait_for_next(self) -> None:
        """Wait until there is another one."""
        await self._next.wait()

    async def keep_up_to_date(self) -> None:
        """Update until this is cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.update()


def _to_json(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))
